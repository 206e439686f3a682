using System.Collections;

namespace LlmPipeline.Text.Cleaning;

/// <summary>
/// Looks for documents that two splits share, in the splits as they were made: it knows nothing of how duplicates were removed.
/// Memory: <see cref="DuplicateOptions.MemoryMib"/>, which goes on to temporary files, and 2 bytes a document.
/// </summary>
public sealed class LeakCheck : IDisposable
{
    private readonly ExternalSorter<Record> _exact;
    private readonly BandIndex? _near;
    private readonly List<byte> _splits = [];

    /// <param name="options">Near-duplicates are looked for where they are removed or kept on one side.</param>
    /// <param name="scratchFolder">Takes temporary files.</param>
    public LeakCheck(DuplicateOptions options, string scratchFolder)
    {
        var memory = (long)options.MemoryMib << 20;
        var near = options.Near != NearDuplicateMode.Off;
        _exact = new ExternalSorter<Record>(scratchFolder, near ? memory / 8 : memory);
        _near = near ? new BandIndex(options.Threshold, scratchFolder, memory - (memory / 8)) : null;
    }

    /// <summary>Adds a document of a split.</summary>
    /// <param name="signature">Made under the same options.</param>
    /// <param name="split">Number of its split; 0 is train.</param>
    public void Add(in DocumentSignature signature, byte split)
    {
        _exact.Add(new Record(signature.Exact, split));
        _near?.Add(_splits.Count, signature.MinHash.Span);
        _splits.Add(split);
    }

    /// <summary>Compares the splits; to be called once, after the last document was added.</summary>
    public SplitLeaks Complete(CancellationToken cancellationToken = default)
    {
        long exact = 0;
        Record? first = null;
        foreach (var record in _exact.Sorted())
        {
            if (first is { } known && known.Hash == record.Hash)
            {
                exact += record.Split != known.Split ? 1 : 0;
            }
            else
            {
                first = record;
                cancellationToken.ThrowIfCancellationRequested();
            }
        }

        return new SplitLeaks(exact, _near is null ? null : CountNear(_near, cancellationToken));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _exact.Dispose();
        _near?.Dispose();
    }

    private long CountNear(BandIndex index, CancellationToken cancellationToken)
    {
        var leaked = new BitArray(_splits.Count);
        var known = new ushort[Bucket.MaxCompared][];
        var current = new ushort[DocumentSigner.Permutations];
        foreach (var documents in index.Buckets(new BitArray(_splits.Count)))
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (documents.TrueForAll(d => _splits[d] == _splits[documents[0]]))
            {
                continue;
            }

            for (var i = 0; i < documents.Count; i++)
            {
                var document = documents[i];
                index.Signatures.Read(document, current);
                for (var j = 0; j < Math.Min(i, known.Length); j++)
                {
                    var other = documents[j];
                    if (_splits[other] != _splits[document] && index.Bands.AreSimilar(known[j], current))
                    {
                        leaked[_splits[other] > _splits[document] ? other : document] = true;
                    }
                }

                if (i < known.Length)
                {
                    current.CopyTo(known[i] ??= new ushort[DocumentSigner.Permutations], 0);
                }
            }
        }

        return leaked.Cast<bool>().LongCount(l => l);
    }

    private readonly record struct Record(UInt128 Hash, byte Split) : IComparable<Record>
    {
        public int CompareTo(Record other)
        {
            var order = Hash.CompareTo(other.Hash);
            return order != 0 ? order : Split.CompareTo(other.Split);
        }
    }
}

/// <summary>Documents that splits share.</summary>
/// <param name="ExactDuplicates">Documents with the text of one in a split of a lower number (train, validation, test).</param>
/// <param name="NearDuplicates">Documents that are similar to one in a split of a lower number, exact duplicates included; null where that was not looked for.</param>
public sealed record SplitLeaks(long ExactDuplicates, long? NearDuplicates);
