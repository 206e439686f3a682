using System.Globalization;
using LlmPipeline.Fakes;

namespace LlmPipeline.Text.Tests.Tokenizers;

/// <summary>Unicode boundaries, against the cases of the Unicode Character Database.</summary>
public sealed class SegmentationTests
{
    [Fact]
    public void GraphemeClustersAreThoseOfAll602UnicodeCases()
    {
        var cases = 0;
        foreach (var line in File.ReadLines(TestData.PathOf("grapheme-break-test/GraphemeBreakTest-15.0.txt")).Where(l => l.StartsWith('\u00f7')))
        {
            AssertSplit(line, Graphemes);
            cases++;
        }

        Assert.Equal(602, cases);
    }

    // From WordBreakTest.txt of Unicode 15.0: a case for each rule.
    [Theory]
    [InlineData("\u00f7 000D \u00d7 000A \u00f7 0061 \u00f7 000A \u00f7 0308 \u00f7")]
    [InlineData("\u00f7 0020 \u00d7 200D \u00f7 0646 \u00f7")]
    [InlineData("\u00f7 0646 \u00d7 200D \u00f7 0020 \u00f7")]
    [InlineData("\u00f7 0041 \u00d7 0041 \u00d7 0041 \u00f7")]
    [InlineData("\u00f7 0041 \u00d7 003A \u00d7 0041 \u00f7")]
    [InlineData("\u00f7 0041 \u00f7 003A \u00f7 003A \u00f7 0041 \u00f7")]
    [InlineData("\u00f7 05D0 \u00d7 0027 \u00f7")]
    [InlineData("\u00f7 05D0 \u00d7 0022 \u00d7 05D0 \u00f7")]
    [InlineData("\u00f7 0041 \u00d7 0030 \u00d7 0030 \u00d7 0041 \u00f7")]
    [InlineData("\u00f7 0030 \u00d7 002C \u00d7 0030 \u00f7")]
    [InlineData("\u00f7 0030 \u00f7 002C \u00f7 002C \u00f7 0030 \u00f7")]
    [InlineData("\u00f7 3031 \u00d7 3031 \u00f7")]
    [InlineData("\u00f7 0041 \u00d7 005F \u00d7 0030 \u00d7 005F \u00d7 3031 \u00d7 005F \u00f7")]
    [InlineData("\u00f7 1F1E6 \u00d7 1F1E7 \u00f7 1F1E8 \u00f7 0062 \u00f7")]
    [InlineData("\u00f7 0061 \u00f7 1F1E6 \u00d7 200D \u00d7 1F1E7 \u00f7 1F1E8 \u00f7 0062 \u00f7")]
    [InlineData("\u00f7 1F476 \u00d7 1F3FF \u00f7 1F476 \u00f7")]
    [InlineData("\u00f7 1F6D1 \u00d7 200D \u00d7 1F6D1 \u00f7")]
    [InlineData("\u00f7 0061 \u00d7 200D \u00d7 1F6D1 \u00f7")]
    [InlineData("\u00f7 0061 \u00f7 1F6D1 \u00f7")]
    [InlineData("\u00f7 0061 \u00d7 0308 \u00d7 200D \u00d7 0308 \u00d7 0062 \u00f7")]
    [InlineData("\u00f7 0061 \u00f7 0020 \u00d7 0020 \u00f7 0062 \u00f7")]
    [InlineData("\u00f7 0031 \u00d7 002E \u00d7 0031 \u00f7 0022 \u00f7")]
    [InlineData("\u00f7 0061 \u00f7 002C \u00f7 0031 \u00f7")]
    [InlineData("\u00f7 06DD \u00d7 0031 \u00f7")]
    public void WordsEndWhereTheUnicodeCasesSay(string line) => AssertSplit(line, Words);

    [Theory]
    [InlineData("Hello, world!", "Hello|,| world|!")]
    [InlineData(" a  b\n\n c\t", " a| | b|\n|\n| c|\t")]
    [InlineData("can't 3.14 e\u0301t\u00e9", "can't| 3.14| e\u0301t\u00e9")]
    [InlineData("\r\n ", "\r|\n| ")]
    public void AWordHasTheOneSpaceBeforeIt(string text, string words) => Assert.Equal(words.Split('|'), TestTexts.Split(TextSplitter.Word, text));

    [Fact]
    public void PartsJoinToTheText()
    {
        foreach (var text in TestTexts.Edges)
        {
            foreach (var splitter in new[] { TextSplitter.Word, TextSplitter.Grapheme, TextSplitter.Character, TextSplitter.Blank })
            {
                Assert.Equal(text, string.Concat(TestTexts.Split(splitter, text)));
            }
        }
    }

    private static void AssertSplit(string line, Func<string, List<string>> split)
    {
        List<string> expected = [.. line.Split('\u00f7', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).Select(cluster => string.Concat(cluster
            .Split('\u00d7', StringSplitOptions.TrimEntries).Select(code => int.Parse(code, NumberStyles.HexNumber, CultureInfo.InvariantCulture))
            .Select(code => code is >= 0xD800 and <= 0xDFFF ? ((char)code).ToString() : char.ConvertFromUtf32(code))))];
        Assert.True(expected.SequenceEqual(split(string.Concat(expected))), line);
    }

    private static List<string> Graphemes(string text) => All(text, t => TextSplitter.Grapheme.FirstPart(t, out _));

    private static List<string> Words(string text) => All(text, t => WordBreaks.FirstLength(t));

    private static List<string> All(string text, Length firstLength)
    {
        var parts = new List<string>();
        for (var at = 0; at < text.Length; at += parts[^1].Length)
        {
            parts.Add(text.Substring(at, firstLength(text.AsSpan(at))));
        }

        return parts;
    }

    private delegate int Length(ReadOnlySpan<char> text);
}
