using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using LlmPipeline.Storage;
using LlmPipeline.Text.Cleaning;
using LlmPipeline.Text.Shards;

namespace LlmPipeline.Text.Building;

/// <summary>Sizes of what a unit has in each split; <c>encode/{unit}.ngrams</c> holds a sample of its n-grams (<see cref="NgramOverlap.Write"/>).</summary>
internal sealed record EncodeResult(IReadOnlyList<EncodedSize> Splits);

/// <summary>Documents and ids of a unit in a split.</summary>
internal sealed record EncodedSize(long Documents, long Tokens, long Bytes, long Characters);

/// <summary>An encoded document.</summary>
/// <param name="Tokens">Number of ids, the end of text included.</param>
/// <param name="Bytes">UTF-8 bytes of the text.</param>
/// <param name="Characters">Code points of the text.</param>
/// <param name="Hash">Of the document.</param>
/// <param name="UnknownTokens">Ids that stand for text outside the vocabulary.</param>
/// <param name="UnknownBytes">Bytes of the text that decoding does not give back.</param>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct EncodedDocument(int Tokens, int Bytes, int Characters, ulong Hash, int UnknownTokens = 0, int UnknownBytes = 0)
{
    public const int Size = 28;

    public void Write(Span<byte> target)
    {
        BinaryPrimitives.WriteInt32LittleEndian(target, Tokens);
        BinaryPrimitives.WriteInt32LittleEndian(target[4..], Bytes);
        BinaryPrimitives.WriteInt32LittleEndian(target[8..], Characters);
        BinaryPrimitives.WriteUInt64LittleEndian(target[12..], Hash);
        BinaryPrimitives.WriteInt32LittleEndian(target[20..], UnknownTokens);
        BinaryPrimitives.WriteInt32LittleEndian(target[24..], UnknownBytes);
    }

    public static EncodedDocument Read(ReadOnlySpan<byte> source) => new(
        BinaryPrimitives.ReadInt32LittleEndian(source),
        BinaryPrimitives.ReadInt32LittleEndian(source[4..]),
        BinaryPrimitives.ReadInt32LittleEndian(source[8..]),
        BinaryPrimitives.ReadUInt64LittleEndian(source[12..]),
        BinaryPrimitives.ReadInt32LittleEndian(source[20..]),
        BinaryPrimitives.ReadInt32LittleEndian(source[24..]));
}

/// <summary>Encodes a unit: for each split <c>encode/{unit}-{split}.ids</c>, the ids as they lie in shards, and <c>.documents</c>, an entry for each document.</summary>
internal sealed class UnitEncoding(JobFolder folder, Selection selection, ITokenizer tokenizer, BuildProgress progress)
{
    private const int BufferBytes = 1 << 16;

    // A word takes 6 bytes, its space included, in most languages that part them.
    private const int BytesPerWord = 6;

    private readonly int _bytesPerToken = EncodedBatch.BytesPerToken(tokenizer.VocabularySize + (selection.Labels?.Count ?? 0));

    /// <summary>Encodes one unit.</summary>
    public async Task<EncodeResult> EncodeAsync(int unit, int degree, CancellationToken cancellationToken)
    {
        var splits = new SplitWriter?[SplitPlan.Names.Length];
        var overlaps = new ConcurrentBag<NgramOverlap>();
        try
        {
            var encoded = new SelectedDocuments(folder, selection).ReadAsync(unit, cancellationToken).SelectOrdered(batch => Encode(batch, overlaps), degree, cancellationToken);
            await foreach (var batch in encoded.WithCancellation(cancellationToken))
            {
                foreach (var part in batch.Parts)
                {
                    var writer = splits[part.Split] ??= await SplitWriter.CreateAsync(folder, unit, part.Split, cancellationToken);
                    writer.Append(part);
                }

                progress.AddEncoded(batch.Bytes, batch.Parts.Sum(p => p.Documents.Sum(d => (long)d.Tokens)));
            }

            foreach (var writer in splits.OfType<SplitWriter>())
            {
                await writer.CommitAsync(cancellationToken);
            }

            await WriteOverlapAsync(unit, overlaps, cancellationToken);
        }
        finally
        {
            foreach (var writer in splits.OfType<SplitWriter>())
            {
                await writer.DisposeAsync();
            }
        }

        return new EncodeResult([.. splits.Select(s => s?.Total ?? new EncodedSize(0, 0, 0, 0))]);
    }

    /// <summary>The documents of a unit in a split, in order, in batches of a bounded size or one big document.</summary>
    /// <param name="folder">Where they lie.</param>
    /// <param name="unit">The unit.</param>
    /// <param name="split">Number of the split.</param>
    /// <param name="bytesPerToken">Bytes an id takes.</param>
    /// <param name="cancellationToken">Ends the reading.</param>
    public static async IAsyncEnumerable<EncodedDocuments> ReadAsync(
        JobFolder folder, int unit, int split, int bytesPerToken, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        const int BatchBytes = 1 << 20;
        await using var ids = await folder.OpenReadAsync(NameOf(unit, split, "ids"), cancellationToken);
        var batch = new List<EncodedDocument>();
        var bytes = 0;
        await foreach (var document in ReadEntriesAsync(folder, unit, split, cancellationToken))
        {
            batch.Add(document);
            bytes += document.Tokens * bytesPerToken;
            if (bytes >= BatchBytes)
            {
                yield return await TakeAsync();
            }
        }

        if (batch.Count > 0)
        {
            yield return await TakeAsync();
        }

        async Task<EncodedDocuments> TakeAsync()
        {
            var content = GC.AllocateUninitializedArray<byte>(bytes);
            await ids.ReadExactlyAsync(content, cancellationToken);
            var taken = new EncodedDocuments(split, content, [.. batch]);
            batch.Clear();
            bytes = 0;
            return taken;
        }
    }

    /// <summary>The n-grams of all units.</summary>
    public static async Task<NgramOverlap> ReadOverlapAsync(JobFolder folder, Selection selection, CancellationToken cancellationToken)
    {
        var all = NewOverlap(selection);
        for (var unit = 0; unit < selection.UnitCount; unit++)
        {
            await using var stream = new BufferedStream(await folder.OpenReadAsync(OverlapOf(unit), cancellationToken), BufferBytes);
            all.Merge(NgramOverlap.Read(stream));
        }

        return all;
    }

    /// <summary>What is kept of the documents of a unit in a split, in order.</summary>
    public static async IAsyncEnumerable<EncodedDocument> ReadEntriesAsync(
        JobFolder folder, int unit, int split, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        await using var stream = new BufferedStream(await folder.OpenReadAsync(NameOf(unit, split, "documents"), cancellationToken), BufferBytes);
        var entry = new byte[EncodedDocument.Size];
        while (stream.ReadAtLeast(entry, entry.Length, throwOnEndOfStream: false) == entry.Length)
        {
            yield return EncodedDocument.Read(entry);
        }
    }

    private static NgramOverlap NewOverlap(Selection selection) => new(selection.Bytes / BytesPerWord);

    private static string NameOf(int unit, int split, string ending) => string.Create(CultureInfo.InvariantCulture, $"encode/{unit:D6}-{SplitPlan.Names[split]}.{ending}");

    private static string OverlapOf(int unit) => string.Create(CultureInfo.InvariantCulture, $"encode/{unit:D6}.ngrams");

    private async Task WriteOverlapAsync(int unit, IEnumerable<NgramOverlap> overlaps, CancellationToken cancellationToken)
    {
        var all = NewOverlap(selection);
        foreach (var overlap in overlaps)
        {
            all.Merge(overlap);
        }

        await using var writer = await folder.CreateAsync(OverlapOf(unit), cancellationToken);
        all.Write(writer.Stream);
        await writer.CommitAsync(cancellationToken);
    }

    private EncodedParts Encode(DocumentBatch batch, ConcurrentBag<NgramOverlap> overlaps)
    {
        if (!overlaps.TryTake(out var overlap))
        {
            overlap = NewOverlap(selection);
        }

        foreach (var document in batch.Documents)
        {
            overlap.Add(document.Utf8.Span, document.Split);
        }

        overlaps.Add(overlap);
        var parts = new List<EncodedDocuments>();
        foreach (var split in batch.Documents.GroupBy(d => d.Split).OrderBy(g => g.Key))
        {
            var ids = new List<int>(batch.Bytes / 3);
            var documents = new List<EncodedDocument>();
            foreach (var document in split)
            {
                var before = ids.Count;
                tokenizer.Encode(document.Utf8.Span, ids);
                var unknown = UnknownText.Count(tokenizer, CollectionsMarshal.AsSpan(ids)[before..], document.Utf8.Length);
                if (document.Ends)
                {
                    ids.Add(document.Label < 0 ? tokenizer.EndOfTextId : tokenizer.VocabularySize + document.Label);
                }

                documents.Add(new EncodedDocument(ids.Count - before, document.Utf8.Length, document.Characters, document.Hash, (int)unknown.Tokens, (int)unknown.Bytes));
            }

            parts.Add(new EncodedDocuments(split.Key, EncodedBatch.Pack(CollectionsMarshal.AsSpan(ids), _bytesPerToken), [.. documents]));
        }

        return new EncodedParts(parts, batch.Bytes);
    }

    private sealed record EncodedParts(List<EncodedDocuments> Parts, int Bytes);

    private sealed class SplitWriter : IAsyncDisposable
    {
        private readonly BlobWriter _ids;
        private readonly BlobWriter _documents;
        private readonly BufferedStream _entries;

        private SplitWriter(BlobWriter ids, BlobWriter documents)
        {
            (_ids, _documents) = (ids, documents);
            _entries = new BufferedStream(documents.Stream, BufferBytes);
        }

        public EncodedSize Total { get; private set; } = new(0, 0, 0, 0);

        public static async Task<SplitWriter> CreateAsync(JobFolder folder, int unit, int split, CancellationToken cancellationToken)
        {
            var ids = await folder.CreateAsync(NameOf(unit, split, "ids"), cancellationToken);
            return new SplitWriter(ids, await folder.CreateAsync(NameOf(unit, split, "documents"), cancellationToken));
        }

        public void Append(EncodedDocuments part)
        {
            _ids.Stream.Write(part.Ids);
            Span<byte> entry = stackalloc byte[EncodedDocument.Size];
            foreach (var document in part.Documents)
            {
                document.Write(entry);
                _entries.Write(entry);
                Total = new EncodedSize(Total.Documents + 1, Total.Tokens + document.Tokens, Total.Bytes + document.Bytes, Total.Characters + document.Characters);
            }
        }

        public async Task CommitAsync(CancellationToken cancellationToken)
        {
            await _ids.CommitAsync(cancellationToken);
            await _entries.FlushAsync(cancellationToken);
            await _documents.CommitAsync(cancellationToken);
        }

        public async ValueTask DisposeAsync()
        {
            await _ids.DisposeAsync();
            await _documents.DisposeAsync();
        }
    }
}

/// <summary>Encoded documents of a split, one after another.</summary>
internal sealed record EncodedDocuments(int Split, byte[] Ids, EncodedDocument[] Documents)
{
    /// <summary>As it is written to shards.</summary>
    public EncodedBatch ToBatch() => new(
        Ids, Array.ConvertAll(Documents, d => d.Tokens), Documents.Sum(d => (long)d.Bytes), Documents.Sum(d => (long)d.Characters),
        new UnknownText(Documents.Sum(d => (long)d.UnknownTokens), Documents.Sum(d => (long)d.UnknownBytes)));
}
