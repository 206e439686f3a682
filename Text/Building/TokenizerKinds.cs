using System.Text;

namespace LlmPipeline.Text.Building;

/// <summary>What a dataset's tokenizer can be: how text is counted for it, and how it is made of the counts.</summary>
internal static class TokenizerKinds
{
    /// <summary>How text is counted.</summary>
    public static TokenCounter CounterOf(TokenizerRecipe recipe) => recipe.Kind switch
    {
        "bpe" => CounterOf(WordSplitter.Create(recipe.Pattern)),
        "character" => new TokenCounter(IsSampled: false, CountsAllSplits: true, CountCharacters),
        _ => throw Unknown(recipe.Kind),
    };

    /// <summary>Makes the tokenizer.</summary>
    public static ITokenizer Train(TokenizerRecipe recipe, WordCounts words, Action<double> progress, CancellationToken cancellationToken) => recipe.Kind switch
    {
        "bpe" => BpeTrainer.Train(
            words,
            new BpeOptions(recipe.VocabularySize) { Splitter = WordSplitter.Create(recipe.Pattern), SpecialTokens = recipe.SpecialTokens },
            progress,
            cancellationToken),
        "character" => CharacterTokenizer.Create(Enumerable.Range(0, words.DistinctCount).Select(i => RuneOf(words.WordAt(i)))),
        _ => throw Unknown(recipe.Kind),
    };

    private static TokenCounter CounterOf(IWordSplitter splitter) =>
        new(IsSampled: true, CountsAllSplits: false, (words, utf8) => words.Add(utf8, splitter));

    private static void CountCharacters(WordCounts words, ReadOnlySpan<byte> utf8)
    {
        Span<long> ascii = stackalloc long[0x80];
        ascii.Clear();
        while (!utf8.IsEmpty)
        {
            if (utf8[0] < ascii.Length)
            {
                ascii[utf8[0]]++;
                utf8 = utf8[1..];
                continue;
            }

            Rune.DecodeFromUtf8(utf8, out _, out var length);
            words.AddWord(utf8[..length], 1);
            utf8 = utf8[length..];
        }

        for (var i = 0; i < ascii.Length; i++)
        {
            if (ascii[i] > 0)
            {
                words.AddWord([(byte)i], ascii[i]);
            }
        }
    }

    private static Rune RuneOf(ReadOnlySpan<byte> utf8)
    {
        Rune.DecodeFromUtf8(utf8, out var rune, out _);
        return rune;
    }

    private static InvalidDataException Unknown(string kind) => new($"There is no tokenizer kind '{kind}'.");
}
