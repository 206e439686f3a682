using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using LlmPipeline.Text.Cleaning;

namespace LlmPipeline.Text.Building;

/// <summary>
/// Puts the training documents into their order, repeated and cut as the budget says, in bounded memory: they are distributed over
/// temporary files by ranges of their keys, and each file is sorted on its own.
/// </summary>
internal sealed class TrainOrder(JobFolder folder, UnitPlan plan, IReadOnlyList<EncodeResult> encoded, ITokenizer tokenizer, int bytesPerToken, string scratchFolder)
{
    private const int Bins = 1 << 16;
    private const long BucketBytes = 32 << 20;
    private const int MaxBuckets = 512;
    private const int SampledDocuments = 1 << 16;

    // Of the hash that says which documents of a part are taken when not all are; copies have the purposes before it.
    private const ulong SelectionPurpose = ulong.MaxValue;

    private readonly DatasetRecipe _recipe = folder.Job.Recipe;

    /// <summary>Whether the documents are written as they lie: in source order, each once.</summary>
    public static bool IsIdentity(DatasetRecipe recipe, IReadOnlyList<PartBudget> budgets) =>
        recipe.Order == DocumentOrder.Source && budgets.All(b => b.Rest == 0 && b.Copies <= 1);

    /// <summary>The documents in order.</summary>
    public async IAsyncEnumerable<EncodedDocuments> ReadAsync(
        PartBudget[] budgets, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        for (var part = 0; part < budgets.Length; part++)
        {
            budgets[part] = budgets[part].Rest == 0 ? budgets[part] : budgets[part] with { End = await FindEndAsync(part, budgets[part].Rest, cancellationToken) };
        }

        var ordered = _recipe.Order == DocumentOrder.Source ? InSourceOrderAsync(budgets, cancellationToken) : ByKeyAsync(budgets, cancellationToken);
        await foreach (var documents in ordered)
        {
            yield return documents;
        }
    }

    private async IAsyncEnumerable<EncodedDocuments> InSourceOrderAsync(
        PartBudget[] budgets, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        for (var part = 0; part < budgets.Length; part++)
        {
            for (long copy = 0; copy < budgets[part].Copies; copy++)
            {
                foreach (var unit in UnitsOf(part))
                {
                    await foreach (var documents in UnitEncoding.ReadAsync(folder, unit, 0, bytesPerToken, cancellationToken))
                    {
                        yield return documents;
                    }
                }
            }

            if (budgets[part].End is not { } end)
            {
                continue;
            }

            foreach (var unit in UnitsOf(part).TakeWhile(u => u <= end.Unit))
            {
                await foreach (var (document, number, ids) in DocumentsAsync(unit, cancellationToken))
                {
                    if (unit == end.Unit && number >= end.Document)
                    {
                        if (number == end.Document && end.Tokens > 0)
                        {
                            yield return Cut(document, ids, end.Tokens);
                        }

                        break;
                    }

                    yield return new EncodedDocuments(0, ids.ToArray(), [document]);
                }
            }
        }
    }

    private async IAsyncEnumerable<EncodedDocuments> ByKeyAsync(
        PartBudget[] budgets, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var boundaries = await BoundariesAsync(budgets, cancellationToken);
        var buckets = new FileStream[boundaries.Length + 1];
        try
        {
            for (var i = 0; i < buckets.Length; i++)
            {
                buckets[i] = ScratchFile.Create(scratchFolder);
            }

            foreach (var unit in Units())
            {
                var budget = budgets[plan.PartOf(unit)];
                await foreach (var (document, number, ids) in DocumentsAsync(unit, cancellationToken))
                {
                    for (long copy = 0; copy < budget.Copies; copy++)
                    {
                        Write(new Copy(KeyOf(document, copy), unit, number, copy, document), ids.Span);
                    }

                    if (budget.End is { } end && Compare(SelectionKey(document), unit, number, end) is var place && (place < 0 || (place == 0 && end.Tokens > 0)))
                    {
                        var taken = place < 0 ? new EncodedDocuments(0, ids.ToArray(), [document]) : Cut(document, ids, end.Tokens);
                        Write(new Copy(KeyOf(document, budget.Copies), unit, number, budget.Copies, taken.Documents[0]), taken.Ids);
                    }
                }
            }

            foreach (var bucket in buckets)
            {
                foreach (var documents in Sorted(bucket))
                {
                    cancellationToken.ThrowIfCancellationRequested();
                    yield return documents;
                }

                // Its room on the disk is not needed any more.
                bucket.SetLength(0);
            }
        }
        finally
        {
            foreach (var bucket in buckets.OfType<FileStream>())
            {
                await bucket.DisposeAsync();
            }
        }

        void Write(Copy copy, ReadOnlySpan<byte> ids)
        {
            var bucket = Array.BinarySearch(boundaries, copy.Key);
            var file = buckets[bucket < 0 ? ~bucket : bucket + 1];
            file.Write(MemoryMarshal.AsBytes(new ReadOnlySpan<Copy>(in copy)));
            file.Write(ids);
        }
    }

    private IEnumerable<EncodedDocuments> Sorted(FileStream bucket)
    {
        bucket.Flush();
        var content = GC.AllocateUninitializedArray<byte>(checked((int)bucket.Length));
        ScratchFile.ReadExactly(bucket, content, 0);
        var copies = new List<(Copy Copy, int Start)>();
        var size = Unsafe.SizeOf<Copy>();
        for (var at = 0; at < content.Length;)
        {
            var copy = MemoryMarshal.Read<Copy>(content.AsSpan(at));
            copies.Add((copy, at + size));
            at += size + (copy.Document.Tokens * bytesPerToken);
        }

        copies.Sort((a, b) => a.Copy.CompareTo(b.Copy));
        foreach (var chunk in copies.Chunk(256))
        {
            var ids = GC.AllocateUninitializedArray<byte>(chunk.Sum(c => c.Copy.Document.Tokens * bytesPerToken));
            var written = 0;
            foreach (var (copy, start) in chunk)
            {
                var length = copy.Document.Tokens * bytesPerToken;
                content.AsSpan(start, length).CopyTo(ids.AsSpan(written));
                written += length;
            }

            yield return new EncodedDocuments(0, ids, Array.ConvertAll(chunk, c => c.Copy.Document));
        }
    }

    // Keys that divide the documents into ranges of about the same number of ids, from a sample.
    private async Task<ulong[]> BoundariesAsync(PartBudget[] budgets, CancellationToken cancellationToken)
    {
        var tokens = budgets.Sum(b => b.Tokens);
        var buckets = (int)Math.Clamp((tokens * bytesPerToken / BucketBytes) + 1, 1, MaxBuckets);
        if (buckets == 1)
        {
            return [];
        }

        var share = (double)SampledDocuments / Math.Max(1, encoded.Sum(e => e.Splits[0].Documents));
        var sample = new List<(ulong Key, double Tokens)>();
        foreach (var unit in Units())
        {
            var budget = budgets[plan.PartOf(unit)];
            var repeats = (double)budget.Tokens / Math.Max(1, PartTokens(plan.PartOf(unit)));
            await foreach (var document in UnitEncoding.ReadEntriesAsync(folder, unit, 0, cancellationToken))
            {
                if (Mixing.Unit(Mixing.Mix(document.Hash, SelectionPurpose - 1)) < share)
                {
                    // Copies have keys that are spread alike.
                    for (var copy = 0; copy < Math.Min(8, Math.Ceiling(repeats)); copy++)
                    {
                        sample.Add((KeyOf(document, copy), document.Tokens * repeats / Math.Min(8, Math.Ceiling(repeats))));
                    }
                }
            }
        }

        sample.Sort();
        var each = sample.Sum(s => s.Tokens) / buckets;
        var boundaries = new List<ulong>();
        double passed = 0;
        foreach (var (key, weight) in sample)
        {
            passed += weight;
            if (passed >= each * (boundaries.Count + 1) && boundaries.Count < buckets - 1 && (boundaries.Count == 0 || key > boundaries[^1]))
            {
                boundaries.Add(key);
            }
        }

        return [.. boundaries];
    }

    // Which documents of a part are taken when not all are: the first in source order, or those with the smallest hashes.
    private async Task<SelectionEnd> FindEndAsync(int part, long rest, CancellationToken cancellationToken)
    {
        if (_recipe.Order == DocumentOrder.Source)
        {
            foreach (var unit in UnitsOf(part))
            {
                var number = 0;
                await foreach (var document in UnitEncoding.ReadEntriesAsync(folder, unit, 0, cancellationToken))
                {
                    if (document.Tokens > rest)
                    {
                        return new SelectionEnd(0, unit, number, (int)rest);
                    }

                    rest -= document.Tokens;
                    number++;
                }
            }

            throw new InvalidOperationException("A part has fewer ids than were counted.");
        }

        var bins = new long[Bins];
        foreach (var unit in UnitsOf(part))
        {
            await foreach (var document in UnitEncoding.ReadEntriesAsync(folder, unit, 0, cancellationToken))
            {
                bins[BinOf(document)] += document.Tokens;
            }
        }

        var bin = 0;
        while (bins[bin] <= rest)
        {
            rest -= bins[bin++];
        }

        var within = new List<(ulong Key, int Unit, int Number, int Tokens)>();
        foreach (var unit in UnitsOf(part))
        {
            var number = 0;
            await foreach (var document in UnitEncoding.ReadEntriesAsync(folder, unit, 0, cancellationToken))
            {
                if (BinOf(document) == bin)
                {
                    within.Add((SelectionKey(document), unit, number, document.Tokens));
                }

                number++;
            }
        }

        within.Sort();
        var at = 0;
        while (within[at].Tokens <= rest)
        {
            rest -= within[at++].Tokens;
        }

        return new SelectionEnd(within[at].Key, within[at].Unit, within[at].Number, (int)rest);
    }

    // The training documents of a unit, one by one.
    private async IAsyncEnumerable<(EncodedDocument Document, int Number, ReadOnlyMemory<byte> Ids)> DocumentsAsync(
        int unit, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var number = 0;
        await foreach (var batch in UnitEncoding.ReadAsync(folder, unit, 0, bytesPerToken, cancellationToken))
        {
            var at = 0;
            foreach (var document in batch.Documents)
            {
                var length = document.Tokens * bytesPerToken;
                yield return (document, number++, batch.Ids.AsMemory(at, length));
                at += length;
            }
        }
    }

    // The first ids of a document; the last of them becomes the end of text.
    private EncodedDocuments Cut(EncodedDocument document, ReadOnlyMemory<byte> ids, int tokens)
    {
        var cut = ids[..(tokens * bytesPerToken)].ToArray();
        var end = Shards.EncodedBatch.Pack([tokenizer.EndOfTextId], bytesPerToken);
        end.CopyTo(cut.AsSpan(cut.Length - bytesPerToken));
        int bytes = 0, characters = 0, unknown = 0;
        for (int i = 0, previous = -1; i < tokens - 1; i++)
        {
            var at = cut.AsSpan(i * bytesPerToken);
            var id = bytesPerToken == sizeof(ushort) ? MemoryMarshal.Read<ushort>(at) : MemoryMarshal.Read<int>(at);
            var text = tokenizer.BytesAfter(previous, id);
            previous = text.IsEmpty ? previous : id;
            unknown += id == tokenizer.UnknownId ? 1 : 0;
            bytes += text.Length;
            characters += Sources.Utf8Text.CountCharacters(text);
        }

        return new EncodedDocuments(0, cut, [document with { Tokens = tokens, Bytes = bytes, Characters = characters, UnknownTokens = unknown, UnknownBytes = 0 }]);
    }

    private IEnumerable<int> UnitsOf(int part) =>
        Enumerable.Range(plan.Parts[part].FirstUnit, plan.Parts[part].UnitCount).Where(u => u < encoded.Count && encoded[u].Splits[0].Documents > 0);

    private IEnumerable<int> Units() => Enumerable.Range(0, plan.Parts.Count).SelectMany(UnitsOf);

    private long PartTokens(int part) => UnitsOf(part).Sum(u => encoded[u].Splits[0].Tokens);

    private ulong KeyOf(EncodedDocument document, long copy)
    {
        var hash = Mixing.Mix(document.Hash, (ulong)copy);
        return _recipe.Order == DocumentOrder.Length ? ((ulong)(uint)document.Bytes << 32) | (hash >> 32) : hash;
    }

    private static ulong SelectionKey(EncodedDocument document) => Mixing.Mix(document.Hash, SelectionPurpose);

    private static int BinOf(EncodedDocument document) => (int)(SelectionKey(document) >> 48);

    private static int Compare(ulong key, int unit, int number, SelectionEnd end) => (key, unit, number).CompareTo((end.Key, end.Unit, end.Document));

    [StructLayout(LayoutKind.Sequential)]
    private readonly record struct Copy(ulong Key, int Unit, int Number, long Repetition, EncodedDocument Document) : IComparable<Copy>
    {
        public int CompareTo(Copy other) => (Key, Unit, Number, Repetition).CompareTo((other.Key, other.Unit, other.Number, other.Repetition));
    }
}
