using System.Text;
using LlmPipeline.Text.Cleaning;

namespace LlmPipeline.Text.Tests;

public sealed class TextCleanerTests
{
    [Theory]
    [InlineData(null, "e\u0301 \uFB01", "e\u0301 \uFB01")]
    [InlineData(NormalizationForm.FormC, "e\u0301 \uFB01", "\u00E9 \uFB01")]
    [InlineData(NormalizationForm.FormKC, "e\u0301 \uFB01", "\u00E9 fi")]
    public void UnicodeIsNormalizedAsAsked(NormalizationForm? form, string text, string expected) =>
        Assert.Equal(expected, new TextCleaner(form, whitespace: false).Clean(text));

    [Theory]
    [InlineData("a  \r\n\r\n\r\n\r\nb\rc\t\n", "a\n\nb\nc\n")]
    [InlineData("\n\n\na", "\na")]
    [InlineData("  indented\n", "  indented\n")]
    [InlineData("", "")]
    public void WhitespaceIsCleaned(string text, string expected) =>
        Assert.Equal(expected, new TextCleaner(null, whitespace: true).Clean(text));

    [Fact]
    public void NothingSwitchedOnGivesTheTextItself()
    {
        const string text = "a  \r\n\r\n\r\n\u0301";
        Assert.Same(text, new TextCleaner(null, whitespace: false).Clean(text));
    }
}
