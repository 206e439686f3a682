using LlmPipeline.Text.Cleaning;

namespace LlmPipeline.Text.Tests.Cleaning;

public sealed class DocumentCleanerTests
{
    [Theory]
    [InlineData(UnicodeMode.None, "e\u0301 \uFB01", "e\u0301 \uFB01")]
    [InlineData(UnicodeMode.Nfc, "e\u0301 \uFB01", "\u00E9 \uFB01")]
    [InlineData(UnicodeMode.Nfkc, "e\u0301 \uFB01", "\u00E9 fi")]
    [InlineData(UnicodeMode.Nfkc, "a\u00B2 \u00A0b", "a2  b")]
    public void UnicodeIsNormalizedAsAsked(UnicodeMode mode, string text, string expected) =>
        Assert.Equal(expected, Clean(text, new CleaningOptions { Unicode = mode }));

    [Fact]
    public void WhatIsNoUnicodeTextIsNormalizedAround() =>
        Assert.Equal("\u00E9\uD800\u00E9\uFFFE\U0001F600\uDC00\u00E9", Clean("e\u0301\uD800e\u0301\uFFFE\U0001F600\uDC00e\u0301", new CleaningOptions()));

    [Theory]
    [InlineData("a  \r\n\r\n\r\n\r\nb\rc\t\n", "a\n\nb\nc\n")]
    [InlineData("\n\n\na", "\na")]
    [InlineData("  indented\n", "  indented\n")]
    [InlineData("a\rb", "a\nb")]
    public void WhitespaceIsCleaned(string text, string expected) =>
        Assert.Equal(expected, Clean(text, new CleaningOptions { Whitespace = true }));

    [Theory]
    [InlineData(PunctuationMode.Normalize, "\u201Ca\u201D \u2018b\u2019 \u00ABc\u00BB d\u2014e\u2026", "\"a\" 'b' \"c\" d-e...")]
    [InlineData(PunctuationMode.Remove, "don't (a_b) $5 <x> \u3002\u00BFq? \u20AC", "dont ab 5 x q \u20AC")]
    public void PunctuationIsNormalizedOrRemoved(PunctuationMode mode, string text, string expected) =>
        Assert.Equal(expected, Clean(text, new CleaningOptions { Punctuation = mode }));

    [Theory]
    [InlineData(NumberMode.Zero, "1984 \u0664\u0662 \U0001D7D8 x\u00B2 \u2167", "0000 00 0 x\u00B2 \u2167")]
    [InlineData(NumberMode.Remove, "1984 \u0664\u0662 \U0001D7D8 x\u00B2", "   x\u00B2")]
    public void DigitsOfAnyScriptAreReplacedOrRemoved(NumberMode mode, string text, string expected) =>
        Assert.Equal(expected, Clean(text, new CleaningOptions { Numbers = mode }));

    [Fact]
    public void LetterCaseIsLowered() =>
        Assert.Equal("stra\u00DFe \u0434\u0430 \U00010428", Clean("STRA\u00DFE \u0414\u0410 \U00010400", new CleaningOptions { LetterCase = LetterCaseMode.Lower }));

    [Fact]
    public void NothingSwitchedOnGivesTheTextItself()
    {
        const string text = "a  \r\n\r\n\r\n\u0301";
        var counts = new CleaningCounts();
        Assert.Same(text, new DocumentCleaner(new CleaningOptions { Unicode = UnicodeMode.None }).Clean(text, counts).Text);
        Assert.Equal((1, 1), (counts.Documents, counts.DocumentsKept));
        Assert.Empty(counts.Steps);
    }

    [Theory]
    [InlineData("")]
    [InlineData(" \t\n")]
    [InlineData("...")]
    public void EmptyDocumentsAreDropped(string text)
    {
        var counts = new CleaningCounts();
        var cleaned = new DocumentCleaner(new CleaningOptions { Punctuation = PunctuationMode.Remove }).Clean(text, counts);
        Assert.Equal(new CleanedText(null, DropReason.Empty), cleaned);
        Assert.Equal((1, 0, 1), (counts.Documents, counts.DocumentsKept, counts.Dropped["empty"]));
    }

    internal static string? Clean(string text, CleaningOptions options) => new DocumentCleaner(options).Clean(text, new CleaningCounts()).Text;
}
