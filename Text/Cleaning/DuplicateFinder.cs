using System.Runtime.InteropServices;

namespace LlmPipeline.Text.Cleaning;

/// <summary>
/// Finds duplicates among documents whose signatures are added in document order. Documents are of a kind when they are joined by a
/// chain of duplicates. Memory: <see cref="DuplicateOptions.MemoryMib"/> for the index, which goes on to temporary files, and 5 bytes a
/// document. What is found depends neither on that memory nor on who computed the signatures.
/// </summary>
public sealed class DuplicateFinder : IDisposable
{
    private readonly DuplicateOptions _options;
    private readonly ExternalSorter<ExactRecord>? _exact;
    private readonly BandIndex? _near;
    private readonly List<int> _kinds = [];

    /// <param name="options">What to look for.</param>
    /// <param name="scratchFolder">Takes temporary files.</param>
    public DuplicateFinder(DuplicateOptions options, string scratchFolder)
    {
        _options = options;
        var memory = (long)options.MemoryMib << 20;
        var near = options.Near != NearDuplicateMode.Off;
        _exact = options.Exact ? new ExternalSorter<ExactRecord>(scratchFolder, near ? memory / 8 : memory) : null;
        _near = near ? new BandIndex(options.Threshold, scratchFolder, memory - (memory / 8)) : null;
    }

    /// <summary>Documents added so far; the next one has this number.</summary>
    public int Count => _kinds.Count;

    /// <summary>Whether a part of the index lies on disk.</summary>
    public bool IsSpilled => _exact?.IsSpilled == true || _near?.IsSpilled == true;

    /// <summary>Adds the next document.</summary>
    public void Add(in DocumentSignature signature)
    {
        var number = _kinds.Count;
        _kinds.Add(number);
        _exact?.Add(new ExactRecord(signature.Exact, number));
        _near?.Add(number, signature.MinHash.Span);
    }

    /// <summary>Compares all documents; to be called once, after the last was added.</summary>
    public DuplicateVerdicts Complete(CancellationToken cancellationToken = default)
    {
        var kinds = new DisjointSets(CollectionsMarshal.AsSpan(_kinds).ToArray());
        _kinds.Clear();
        var copies = new System.Collections.BitArray(kinds.Count);
        if (_exact is not null)
        {
            ExactRecord? first = null;
            foreach (var record in _exact.Sorted())
            {
                if (first is { } known && known.Hash == record.Hash)
                {
                    copies[record.Document] = true;
                    kinds.Join(known.Document, record.Document);
                }
                else
                {
                    first = record;
                    cancellationToken.ThrowIfCancellationRequested();
                }
            }
        }

        _near?.JoinSimilar(kinds, copies, cancellationToken);
        return new DuplicateVerdicts(kinds, copies, _options.Near == NearDuplicateMode.Keep);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _exact?.Dispose();
        _near?.Dispose();
    }

    private readonly record struct ExactRecord(UInt128 Hash, int Document) : IComparable<ExactRecord>
    {
        public int CompareTo(ExactRecord other)
        {
            var order = Hash.CompareTo(other.Hash);
            return order != 0 ? order : Document.CompareTo(other.Document);
        }
    }
}

/// <summary>What became of each document, by its number.</summary>
public sealed class DuplicateVerdicts
{
    private readonly DisjointSets _kinds;
    private readonly System.Collections.BitArray _copies;
    private readonly bool _keepNear;

    internal DuplicateVerdicts(DisjointSets kinds, System.Collections.BitArray copies, bool keepNear)
    {
        (_kinds, _copies, _keepNear) = (kinds, copies, keepNear);
        for (var i = 0; i < kinds.Count; i++)
        {
            ExactDuplicates += copies[i] ? 1 : 0;
            NearDuplicates += !copies[i] && kinds.First(i) != i ? 1 : 0;
        }
    }

    /// <summary>Documents.</summary>
    public int Count => _kinds.Count;

    /// <summary>Documents with the text of an earlier one.</summary>
    public long ExactDuplicates { get; }

    /// <summary>Other documents that are not the first of their kind.</summary>
    public long NearDuplicates { get; }

    /// <summary>The verdict on a document.</summary>
    public DuplicateVerdict this[int document]
    {
        get
        {
            var first = _kinds.First(document);
            var kind = _copies[document] ? DuplicateKind.Exact : first == document ? DuplicateKind.Unique : DuplicateKind.Near;
            return new DuplicateVerdict(kind, first, kind == DuplicateKind.Unique || (kind == DuplicateKind.Near && _keepNear));
        }
    }
}

/// <summary>What became of a document.</summary>
/// <param name="Kind">What it is.</param>
/// <param name="First">Number of the first document of its kind, whose split is that of all; its own when it is that.</param>
/// <param name="Keep">Whether it goes into the dataset.</param>
public readonly record struct DuplicateVerdict(DuplicateKind Kind, int First, bool Keep);

/// <summary>What a document is among the others.</summary>
public enum DuplicateKind
{
    /// <summary>The first of its kind.</summary>
    Unique,

    /// <summary>It has the text of an earlier one.</summary>
    Exact,

    /// <summary>It is similar to another one of its kind.</summary>
    Near,
}
