using LlmPipeline.Text.Cleaning;

namespace LlmPipeline.Text.Tests.Cleaning;

public sealed class MarkupTests
{
    [Theory]
    [InlineData("<p>One</p><p>two <b>bold</b> words</p>", "One\ntwo bold words\n")]
    [InlineData("a<br/>b<br>c", "a\nb\nc")]
    [InlineData("x<script type=\"text/javascript\">if (a < b) { alert('</p>'); }</script>y", "xy")]
    [InlineData("x<STYLE>p { color: red }</STYLE >y", "xy")]
    [InlineData("x<!-- a <b> comment -->y", "xy")]
    [InlineData("<!DOCTYPE html>\nx", "\nx")]
    [InlineData("<?xml version=\"1.0\"?>x", "x")]
    [InlineData("<![CDATA[a < b]]>", "a < b")]
    [InlineData("<a href=\"x?a>b\" title='>'>link</a>", "link")]
    [InlineData("<img src=x.png alt=\"a picture\">x", "x")]
    [InlineData("<my-element class=\"c\">x</my-element><o:p>y</o:p>", "xy")]
    [InlineData("<td>1</td><td>2</td>", "1 2 ")]
    public void HtmlIsRemoved(string text, string expected) => Assert.Equal(expected, MarkupStep.Apply(text));

    [Theory]
    [InlineData("Tom &amp; Jerry &lt;3 &eacute;&#233;&#xe9; &nbsp;", "Tom & Jerry <3 \u00E9\u00E9\u00E9 \u00A0")]
    [InlineData("AT&T &unknown; &#xFFFFFFFF; &", "AT&T &unknown; &#xFFFFFFFF; &")]
    [InlineData("&amp;lt;b&amp;gt;", "&lt;b&gt;")]
    public void EntitiesAreDecodedOnce(string text, string expected) => Assert.Equal(expected, MarkupStep.Apply(text));

    [Theory]
    [InlineData("List<int> and Dictionary<string, T>")]
    [InlineData("a < b and c > d")]
    [InlineData("<EMAIL> and <PHONE> and <IP>")]
    [InlineData("never closed <a href=\"x\" and on")]
    [InlineData("never closed <!-- comment")]
    [InlineData("a <b <i c")]
    [InlineData("snake_case_name and 2 * 3 * 4 and f(x)[0] and #include and C# code")]
    [InlineData("- item one\n- item two\n\n1. first")]
    [InlineData("[x] done, [1] a note, **never closed")]
    [InlineData("<")]
    [InlineData("</")]
    public void WhatIsNoMarkupStays(string text) => Assert.Same(text, MarkupStep.Apply(text));

    [Theory]
    [InlineData("# Heading #\n\nText", "Heading\n\nText")]
    [InlineData("Title\n=====\ntext\n\n---\nmore", "Title\ntext\n\nmore")]
    [InlineData("**bold** and __bold__ and *it* and _it_ and ***both*** and ~~gone~~", "bold and bold and it and it and both and gone")]
    [InlineData("over **two\nlines** on", "over two\nlines on")]
    [InlineData("[text](https://example.com/a_(b) \"title\") and ![picture](x.png)", "text and picture")]
    [InlineData("[text][ref] and [text][]\n\n[ref]: https://example.com\n", "text and text\n\n")]
    [InlineData("see <https://example.com> now", "see https://example.com now")]
    [InlineData("`code_with_*stars*` and ``a`b``", "code_with_*stars* and a`b")]
    [InlineData("\\*not emphasis\\*", "*not emphasis*")]
    [InlineData("> quoted\n> text", "quoted\ntext")]
    [InlineData("before\n```csharp\nvar x = List<b>(); // *kept* &amp;\n```\nafter **b**", "before\nvar x = List<b>(); // *kept* &amp;\nafter b")]
    [InlineData("~~~\nnever closed <b>", "never closed <b>")]
    public void MarkdownLosesItsSigns(string text, string expected) => Assert.Equal(expected, MarkupStep.Apply(text));

    public static TheoryData<string> HostileParts => new(
        "<", "<a ", "<a href=\"", "<a href='", "<script>", "<style>", "<!--", "<![CDATA[", "<?xml", "<!doctype", "</", "&", "&#x", "&lt;", "[", "](", "[](", "[a](b", "![",
        "[a][", "*", "**a ", "*a* ", "_a_", "~~", "`", "\\", "> ", "#", "```\n", "~~~~\n", "<https://", "]:", "[a]: ", "` `` ``` ```` ````` ", "<a b='c\" d=\"e' ", "---\n", "\u0301");

    [Theory]
    [MemberData(nameof(HostileParts))]
    public void HostileTextTakesLinearTime(string part)
    {
        // Quadratic work on 2 million characters would take many minutes.
        var text = string.Concat(Enumerable.Repeat(part, 2_000_000 / part.Length));
        var watch = System.Diagnostics.Stopwatch.StartNew();
        var stripped = MarkupStep.Apply(text);
        Assert.True(stripped.Length <= text.Length);
        Assert.True(watch.Elapsed < TimeSpan.FromSeconds(20), $"'{part}' repeated took {watch.Elapsed}.");
    }

    [Fact]
    public void RunsOfEveryLengthTakeLinearTime()
    {
        // 2,000 runs of different lengths: none has a partner.
        var text = string.Join(' ', Enumerable.Range(1, 2000).Select(n => new string('`', n)));
        var watch = System.Diagnostics.Stopwatch.StartNew();
        Assert.Same(text, MarkupStep.Apply(text));
        Assert.True(watch.Elapsed < TimeSpan.FromSeconds(20), $"It took {watch.Elapsed}.");
    }
}
