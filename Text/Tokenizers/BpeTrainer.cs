using System.Runtime.InteropServices;

namespace LlmPipeline.Text;

/// <summary>
/// Learns a byte-level byte-pair encoding from word counts: merges the most frequent pair of neighbours, again and again; of equally frequent
/// pairs that with the smallest left id, then the smallest right id. The result depends on the counts alone, not on how they were made.
/// </summary>
/// <example><code>
/// var words = new WordCounts();
/// words.Add("low lower lowest"u8, WordSplitter.Default);
/// var tokenizer = BpeTrainer.Train(words, new BpeOptions(260)); // end of text, 256 bytes, "lo", "low", " low"
/// </code></example>
public static class BpeTrainer
{
    /// <summary>Smallest vocabulary: 256 bytes and the end of text.</summary>
    public const int MinVocabularySize = 257;

    /// <summary>Learns the merges. The end of text has id 0, then come the other special tokens, the bytes, and what the merges make.</summary>
    /// <param name="words">Counted with the splitter of the options.</param>
    /// <param name="options">What to make.</param>
    /// <param name="progress">Gets the share done, 0 to 1.</param>
    /// <param name="cancellationToken">Stops the learning.</param>
    /// <exception cref="ArgumentOutOfRangeException">The vocabulary is smaller than the bytes and the special tokens.</exception>
    /// <exception cref="InvalidDataException">A special token cannot be used; the message says why.</exception>
    public static BpeTokenizer Train(WordCounts words, BpeOptions options, Action<double>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(words);
        ArgumentNullException.ThrowIfNull(options);
        var special = options.SpecialIds();
        var first = special.Count + 256;
        ArgumentOutOfRangeException.ThrowIfLessThan(options.VocabularySize, first, nameof(options));
        var tokens = new List<byte[]>(options.VocabularySize);
        var idOfByte = new int[256];
        tokens.AddRange(Enumerable.Repeat(Array.Empty<byte>(), special.Count));
        foreach (var value in ByteAlphabet.IdOrder)
        {
            idOfByte[value] = tokens.Count;
            tokens.Add([value]);
        }

        var learner = new BpeLearner(new BpeWords(words, idOfByte), special.Count, options.VocabularySize, options.MinFrequency);
        var idOfToken = tokens.Select((t, id) => (Token: ByteAlphabet.Write(t), id)).Skip(special.Count).ToDictionary(t => t.Token, t => t.id, StringComparer.Ordinal);
        foreach (var (token, id) in special)
        {
            // What text makes must not take the place of a special token in the file.
            idOfToken[token] = id;
        }

        var merges = new List<BpeMerge>(options.VocabularySize - first);
        while (tokens.Count < options.VocabularySize && learner.TryFindBest(out var left, out var right))
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
            else if (id < special.Count)
            {
                learner.Refuse(left, right);
                continue;
            }

            merges.Add(new BpeMerge(left, right, id));
            learner.Apply(left, right, id, isNew: !exists);
            if (tokens.Count % 64 == 0)
            {
                progress?.Invoke((double)(tokens.Count - first) / (options.VocabularySize - first));
            }
        }

        progress?.Invoke(1);
        return new BpeTokenizer(new BpeVocabulary([.. tokens], merges, special, options.Splitter));
    }
}
