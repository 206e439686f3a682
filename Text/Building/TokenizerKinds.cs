using System.Text;

namespace LlmPipeline.Text.Building;

/// <summary>What a dataset's tokenizer can be: how text is counted for it, and how it is made of the counts.</summary>
internal static class TokenizerKinds
{
    /// <summary>How text is counted. Words and graphemes have a least frequency, so all of them are counted; a vocabulary of characters is that of all splits.</summary>
    public static TokenCounter CounterOf(TokenizerRecipe recipe)
    {
        var splitter = TokenizerTrainer.SplitterOf(OptionsOf(recipe));
        return recipe.Kind == "character"
            ? new TokenCounter(IsSampled: false, CountsAllSplits: true, CountCharacters)
            : new TokenCounter(IsSampled: recipe.Kind is not ("word" or "grapheme"), CountsAllSplits: false, (words, utf8) => words.Add(utf8, splitter));
    }

    /// <summary>Makes the tokenizer.</summary>
    public static ITokenizer Train(TokenizerRecipe recipe, WordCounts words, Action<double> progress, CancellationToken cancellationToken) =>
        TokenizerTrainer.Train(words, OptionsOf(recipe), progress, cancellationToken);

    private static TokenizerOptions OptionsOf(TokenizerRecipe recipe) => new()
    {
        Kind = recipe.Kind,
        VocabularySize = recipe.VocabularySize,
        MinFrequency = recipe.MinFrequency,
        Pattern = recipe.Pattern,
        SpecialTokens = recipe.SpecialTokens,
    };

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
}
