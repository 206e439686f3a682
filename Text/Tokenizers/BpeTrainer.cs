using System.Runtime.InteropServices;
using System.Text;

namespace LlmPipeline.Text;

/// <summary>
/// Learns a byte-level byte-pair encoding. Words are counted first, in one trainer a thread, joined by <see cref="Merge"/>;
/// then <see cref="Train"/> merges the most frequent pair of neighbours, again and again. The result depends on the texts
/// alone, not on their order or on the number of threads. An instance is not safe for use from two threads at once.
/// </summary>
/// <example><code>
/// var trainer = new BpeTrainer();
/// trainer.Add("low lower lowest");
/// var tokenizer = trainer.Train(vocabularySize: 260); // end of text, 256 bytes, "lo", "low", " low"
/// </code></example>
public sealed class BpeTrainer
{
    /// <summary>Smallest vocabulary: 256 bytes and the end of text.</summary>
    public const int MinVocabularySize = 257;

    private readonly Dictionary<string, long> _counts = new(StringComparer.Ordinal);
    private readonly Dictionary<string, long>.AlternateLookup<ReadOnlySpan<char>> _lookup;

    /// <summary>Begins with no text.</summary>
    public BpeTrainer() => _lookup = _counts.GetAlternateLookup<ReadOnlySpan<char>>();

    /// <summary>Distinct words seen.</summary>
    public int WordCount => _counts.Count;

    /// <summary>Counts the words of a text.</summary>
    public void Add(ReadOnlySpan<char> text)
    {
        while (!text.IsEmpty)
        {
            var length = Gpt2Splitter.FirstWordLength(text);
            CollectionsMarshal.GetValueRefOrAddDefault(_lookup, text[..length], out _)++;
            text = text[length..];
        }
    }

    /// <summary>Adds the counts of another trainer, which stays as it is.</summary>
    public void Merge(BpeTrainer other)
    {
        ArgumentNullException.ThrowIfNull(other);
        foreach (var (word, count) in other._counts)
        {
            CollectionsMarshal.GetValueRefOrAddDefault(_counts, word, out _) += count;
        }
    }

    /// <summary>Counts the words of texts on several threads; the texts are read on one.</summary>
    /// <param name="texts">Pieces of text; memory holds a few of them at a time.</param>
    /// <param name="degree">Threads.</param>
    /// <param name="cancellationToken">Stops the counting.</param>
    public static BpeTrainer Count(IEnumerable<string> texts, int degree, CancellationToken cancellationToken = default)
    {
        var total = new BpeTrainer();
        Parallel.ForEach(
            System.Collections.Concurrent.Partitioner.Create(texts, System.Collections.Concurrent.EnumerablePartitionerOptions.NoBuffering),
            new ParallelOptions { MaxDegreeOfParallelism = degree, CancellationToken = cancellationToken },
            () => new BpeTrainer(),
            (text, _, counter) =>
            {
                counter.Add(text);
                return counter;
            },
            counter =>
            {
                lock (total)
                {
                    total.Merge(counter);
                }
            });
        return total;
    }

    /// <summary>Learns the merges. The end of text has id 0, then come the bytes, then what the merges make.</summary>
    /// <param name="vocabularySize">Ids to make, end of text included. Fewer are made when no pair occurs twice any more.</param>
    /// <param name="progress">Gets the share done, 0 to 1.</param>
    /// <param name="cancellationToken">Stops the learning.</param>
    public BpeTokenizer Train(int vocabularySize, Action<double>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(vocabularySize, MinVocabularySize);
        var tokens = new List<byte[]>(vocabularySize) { Array.Empty<byte>() };
        var idOfByte = new int[256];
        foreach (var value in ByteAlphabet.IdOrder)
        {
            idOfByte[value] = tokens.Count;
            tokens.Add([value]);
        }

        var learner = new BpeLearner(Symbols(idOfByte));
        var idOfToken = tokens.Select((t, id) => (Token: ByteAlphabet.Write(t), id)).Skip(1).ToDictionary(t => t.Token, t => t.id, StringComparer.Ordinal);
        var merges = new List<BpeMerge>(vocabularySize - tokens.Count);
        var merged = new HashSet<(int Left, int Right)>();
        var wanted = vocabularySize - tokens.Count;
        while (tokens.Count < vocabularySize && learner.TryFindBest(out var left, out var right))
        {
            cancellationToken.ThrowIfCancellationRequested();
            byte[] joined = [.. tokens[left], .. tokens[right]];

            // Two pairs can make the same bytes: one token then, with two ways to it.
            ref var id = ref CollectionsMarshal.GetValueRefOrAddDefault(idOfToken, ByteAlphabet.Write(joined), out var exists);
            if (!exists)
            {
                id = tokens.Count;
                tokens.Add(joined);
            }

            if (merged.Add((left, right)))
            {
                merges.Add(new BpeMerge(left, right, id));
            }

            learner.Apply(left, right, id);
            if (tokens.Count % 64 == 0)
            {
                progress?.Invoke((double)(tokens.Count - MinVocabularySize) / wanted);
            }
        }

        progress?.Invoke(1);
        return new BpeTokenizer(new BpeVocabulary([.. tokens], merges, new Dictionary<string, int> { [SpecialTokens.EndOfText] = 0 }));
    }

    // Words in an order of their own, so that the result does not depend on how they were counted.
    private List<BpeWord> Symbols(int[] idOfByte)
    {
        var words = new List<BpeWord>(_counts.Count);
        foreach (var (word, count) in _counts.OrderBy(c => c.Key, StringComparer.Ordinal))
        {
            var utf8 = Encoding.UTF8.GetBytes(word);
            if (utf8.Length > 1)
            {
                words.Add(new BpeWord(Array.ConvertAll(utf8, b => idOfByte[b]), count));
            }
        }

        return words;
    }
}
