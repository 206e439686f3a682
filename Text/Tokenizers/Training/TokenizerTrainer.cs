using System.Text;

namespace LlmPipeline.Text;

/// <summary>What a tokenizer of any kind is trained with.</summary>
public sealed record TokenizerOptions
{
    /// <summary>"bpe", "word", "character", "grapheme", "wordpiece" or "classic-bpe".</summary>
    public string Kind { get; init; } = "bpe";

    /// <summary>Ids to make, special tokens included; the largest number for "word" and "grapheme", where 0 sets no limit. Not for "character".</summary>
    public int VocabularySize { get; init; } = 4096;

    /// <summary>Occurrences below which a word, a grapheme cluster or a character is unknown. Not for "bpe".</summary>
    public long MinFrequency { get; init; } = 1;

    /// <summary>How "bpe" cuts text into words: see <see cref="WordSplitter.Create"/>.</summary>
    public string Pattern { get; init; } = "default";

    /// <summary>Special tokens besides the end of text and the unknown.</summary>
    public IReadOnlyList<string> SpecialTokens { get; init; } = [];
}

/// <summary>
/// Trains tokenizers of every kind. Words are counted first, with the splitter of the kind, anywhere and in any order; what is learned
/// depends on the sum of the counts alone.
/// </summary>
/// <example><code>
/// var options = new TokenizerOptions { Kind = "wordpiece", VocabularySize = 8000 };
/// var words = WordCounts.Count(texts, TokenizerTrainer.SplitterOf(options), degree: 2);
/// var tokenizer = TokenizerTrainer.Train(words, options);
/// </code></example>
public static class TokenizerTrainer
{
    /// <summary>The kinds.</summary>
    public static IReadOnlyList<string> Kinds { get; } = ["bpe", "word", "character", "grapheme", "wordpiece", "classic-bpe"];

    /// <summary>Cuts text into the words that a kind learns from.</summary>
    /// <exception cref="InvalidDataException">There is no such kind, or the pattern cannot be used.</exception>
    public static IWordSplitter SplitterOf(TokenizerOptions options) => options.Kind switch
    {
        "bpe" => WordSplitter.Create(options.Pattern),
        "word" or "wordpiece" => TextSplitter.Word,
        "character" => TextSplitter.Character,
        "grapheme" => TextSplitter.Grapheme,
        "classic-bpe" => TextSplitter.Blank,
        var kind => throw new InvalidDataException($"The tokenizer kind {JsonPart.Quote(kind)} is not known: use {string.Join(", ", Kinds)}."),
    };

    /// <summary>Trains a tokenizer.</summary>
    /// <param name="words">Counted with <see cref="SplitterOf"/> the same options.</param>
    /// <param name="options">What to make.</param>
    /// <param name="progress">Gets the share done, 0 to 1.</param>
    /// <param name="cancellationToken">Stops the training.</param>
    /// <exception cref="InvalidDataException">The options cannot be met; the message says why.</exception>
    public static ITokenizer Train(WordCounts words, TokenizerOptions options, Action<double>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(words);
        ArgumentNullException.ThrowIfNull(options);
        var splitter = SplitterOf(options);
        switch (options.Kind)
        {
            case "bpe":
                var bpe = new BpeOptions(options.VocabularySize) { Splitter = splitter, SpecialTokens = options.SpecialTokens };
                return BpeTrainer.Train(words, bpe, progress, cancellationToken);
            case "character" when options is { MinFrequency: <= 1, SpecialTokens.Count: 0 }:
                return CharacterTokenizer.Create(Frequent(words, 1).Select(w => w.Word.EnumerateRunes().First()));
            case "wordpiece":
                return WordPieceTrainer.Train(words, options, progress, cancellationToken);
            case "classic-bpe":
                return ClassicBpeTrainer.Train(words, options, progress, cancellationToken);
            default:
                var special = SpecialIds(options, SpecialTokens.Unknown);
                var limit = options.Kind == "character" || options.VocabularySize == 0 ? int.MaxValue : options.VocabularySize - special.Count;
                if (limit < 1)
                {
                    throw new InvalidDataException($"A vocabulary of {options.VocabularySize} has no place beside the {special.Count} special tokens.");
                }

                var kept = Frequent(words, options.MinFrequency).Select(w => w.Word).Where(w => !special.ContainsKey(w)).Take(limit).ToList();
                progress?.Invoke(1);
                return Read(KindFiles.Words((TextSplitter)splitter, special, kept));
        }
    }

    /// <summary>Ids of the special tokens: the end of text, the unknown, then those of the options.</summary>
    internal static Dictionary<string, int> SpecialIds(TokenizerOptions options, string unknown)
    {
        var ids = new Dictionary<string, int>(StringComparer.Ordinal) { [SpecialTokens.EndOfText] = 0, [unknown] = 1 };
        foreach (var token in options.SpecialTokens)
        {
            if (string.IsNullOrEmpty(token) || !ids.TryAdd(token, ids.Count))
            {
                throw new InvalidDataException($"The special token {JsonPart.Quote(token ?? "")} is empty, comes twice, or is one of {SpecialTokens.EndOfText} and {unknown}, which are always there.");
            }
        }

        return ids;
    }

    /// <summary>Makes the tokenizer of a file that was just written: what is used is what can be read again.</summary>
    internal static ITokenizer Read(string json) => TokenizerFile.Parse(json);

    /// <summary>Words that occur often enough: the most frequent first, equally frequent ones by their bytes.</summary>
    internal static List<(string Word, long Count)> Frequent(WordCounts words, long minFrequency)
    {
        var order = new List<int>();
        for (var i = 0; i < words.DistinctCount; i++)
        {
            if (words.CountAt(i) >= minFrequency)
            {
                order.Add(i);
            }
        }

        order.Sort((a, b) => words.CountAt(a) != words.CountAt(b) ? words.CountAt(b).CompareTo(words.CountAt(a)) : words.WordAt(a).SequenceCompareTo(words.WordAt(b)));
        return order.ConvertAll(i => (Encoding.UTF8.GetString(words.WordAt(i)), words.CountAt(i)));
    }
}
