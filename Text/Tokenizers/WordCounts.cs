using System.Text;
using System.Text.Unicode;

namespace LlmPipeline.Text;

/// <summary>
/// How often each word occurs, words being byte strings: what byte pairs are learned from. Counts of pieces of a text can be made anywhere,
/// written, read and merged; what is learned from the sum depends on neither their number nor their order. Not safe for use from
/// two threads at once.
/// </summary>
public sealed class WordCounts
{
    private readonly WordTable _words = new();
    private long[] _counts = new long[1 << 9];

    /// <summary>Distinct words.</summary>
    public int DistinctCount => _words.Count;

    /// <summary>All occurrences of words.</summary>
    public long TotalCount { get; private set; }

    /// <summary>Bytes of all occurrences.</summary>
    public long TotalBytes { get; private set; }

    /// <summary>The bytes of a word; words are numbered from 0 as they came.</summary>
    public ReadOnlySpan<byte> WordAt(int index) => _words[index];

    /// <summary>How often a word occurs.</summary>
    public long CountAt(int index) => _counts[index];

    /// <summary>Counts the words of a text; invalid UTF-8 counts as U+FFFD.</summary>
    /// <param name="utf8">The text.</param>
    /// <param name="splitter">Cuts it into words.</param>
    public void Add(ReadOnlySpan<byte> utf8, IWordSplitter splitter)
    {
        ArgumentNullException.ThrowIfNull(splitter);
        var sink = new Counter(this);
        splitter.Split(Utf8.IsValid(utf8) ? utf8 : Encoding.UTF8.GetBytes(Encoding.UTF8.GetString(utf8)), ref sink);
    }

    /// <summary>Counts a word.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The count is not positive.</exception>
    public void AddWord(ReadOnlySpan<byte> word, long count)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(count);
        var index = _words.GetOrAdd(word, out var added);
        if (added && index == _counts.Length)
        {
            Array.Resize(ref _counts, 2 * index);
        }

        checked
        {
            _counts[index] += count;
            TotalCount += count;
            TotalBytes += count * word.Length;
        }
    }

    /// <summary>Adds other counts, which stay as they are.</summary>
    /// <param name="other">What to add.</param>
    /// <param name="weight">
    /// Each count is multiplied by it and rounded (half to even), to at least 1. Merge the pieces of a part first and weigh the sum, so that the
    /// rounding does not depend on the pieces.
    /// </param>
    /// <exception cref="ArgumentOutOfRangeException">The weight is not a positive number.</exception>
    public void Merge(WordCounts other, double weight = 1)
    {
        ArgumentNullException.ThrowIfNull(other);
        if (!double.IsFinite(weight) || weight <= 0)
        {
            throw new ArgumentOutOfRangeException(nameof(weight), weight, "A weight has to be a positive number.");
        }

        for (var i = 0; i < other.DistinctCount; i++)
        {
            var count = other.CountAt(i);
            AddWord(other.WordAt(i), weight == 1 ? count : Math.Max(1, checked((long)Math.Round(count * weight))));
        }
    }

    /// <summary>Counts the words of texts on several threads; the texts are read on one at a time.</summary>
    /// <param name="texts">Pieces of text in UTF-8; memory holds a few of them at a time.</param>
    /// <param name="splitter">Cuts each piece into words.</param>
    /// <param name="degree">Threads.</param>
    /// <param name="cancellationToken">Stops the counting.</param>
    public static WordCounts Count(IEnumerable<ReadOnlyMemory<byte>> texts, IWordSplitter splitter, int degree, CancellationToken cancellationToken = default)
    {
        WordCounts? total = null;
        var gate = new object();
        Parallel.ForEach(
            System.Collections.Concurrent.Partitioner.Create(texts, System.Collections.Concurrent.EnumerablePartitionerOptions.NoBuffering),
            new ParallelOptions { MaxDegreeOfParallelism = degree, CancellationToken = cancellationToken },
            () => new WordCounts(),
            (text, _, counts) =>
            {
                counts.Add(text.Span, splitter);
                return counts;
            },
            counts =>
            {
                lock (gate)
                {
                    if (total is null || total.DistinctCount < counts.DistinctCount)
                    {
                        (total, counts) = (counts, total);
                    }

                    if (counts is not null)
                    {
                        total.Merge(counts);
                    }
                }
            });
        return total ?? new WordCounts();
    }

    /// <summary>Writes the counts: the same bytes for the same counts, in whatever order they were made.</summary>
    public void Write(Stream stream) => WordCountsFile.Write(this, stream);

    /// <summary>Reads what <see cref="Write"/> wrote, to the end of the stream.</summary>
    /// <exception cref="InvalidDataException">It is something else, or damaged; the message says where.</exception>
    public static WordCounts Read(Stream stream) => WordCountsFile.Read(stream);

    private readonly struct Counter(WordCounts counts) : IWordSink
    {
        public void Add(ReadOnlySpan<byte> utf8, int start, int end) => counts.AddWord(utf8[start..end], 1);
    }
}
