using System.Text.RegularExpressions;
using LlmPipeline.Fakes;

namespace LlmPipeline.Text.Tests.Tokenizers;

public sealed partial class Gpt2SplitterTests
{
    [Fact]
    public void RandomTextsAreCutAsTheRegexCutsThem()
    {
        // Characters of all classes, and sequences that end alternatives of the pattern. Supplementary letters are left to
        // another test: the regex sees halves of surrogate pairs.
        string[] pieces =
        [
            " ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u2003", "\u2028", "\u0085", "\u000b", "\u200b", "a", "b", "Z", "\u00e9", "e\u0301", "\u05d0", "\u0627", "\u4e2d",
            "\u3042", "0", "7", "\u0663", "\u00b2", "\u2167", "\u00bd", ".", ",", "!", "_", "-", "'", "'s", "'S", "'re", "'r", "'ll", "'l", "'ve", "'d", "'m", "'t", "\u2019s",
            "\U0001F600", "\U0001F468\u200D\U0001F469", "\ufffd", "\0", "\u001c", "\u180e", "\u02b0", "\u16ee", "<|endoftext|>",
        ];
        var random = new Random(1);
        for (var n = 0; n < 20_000; n++)
        {
            var text = string.Concat(Enumerable.Range(0, random.Next(1, 12)).Select(_ => pieces[random.Next(pieces.Length)]));
            Assert.Equal(Pattern().Matches(text).Select(m => m.Value), Split(text));
        }
    }

    [Fact]
    public void RealTextsAreCutAsTheRegexCutsThem()
    {
        foreach (var file in Directory.EnumerateFiles(TestData.PathOf("udhr"), "*.txt").Order())
        {
            var text = File.ReadAllText(file);
            Assert.Equal(Pattern().Matches(text).Select(m => m.Value), Split(text));
        }
    }

    [Fact]
    public void SupplementaryLettersAreLettersAndSurrogatesAreNeverTornApart()
    {
        Assert.Equal(["a\U00020000b", " \U0001D400", "\U0001F600", "\U0001D7D9"], Split("a\U00020000b \U0001D400\U0001F600\U0001D7D9"));
    }

    private static List<string> Split(string text) => TestTexts.Split(WordSplitter.Gpt2, text);

    [GeneratedRegex(@"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", RegexOptions.CultureInvariant)]
    internal static partial Regex Pattern();
}
