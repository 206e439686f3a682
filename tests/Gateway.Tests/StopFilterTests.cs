using LlmPipeline.Gateway.Engine;

namespace LlmPipeline.Gateway.Tests;

public sealed class StopFilterTests
{
    private static (string Text, bool Stopped) Run(string[] stops, params string[] pieces)
    {
        var filter = new StopFilter(stops);
        var text = string.Concat(pieces.Select(filter.Append).ToArray());
        return (text + filter.Finish(), filter.Stopped);
    }

    [Fact]
    public void TextWithoutStopTextsPassesAtOnce() => Assert.Equal("abc", new StopFilter([]).Append("abc"));

    [Fact]
    public void AStopTextAcrossPiecesIsFoundAndLeftOut() => Assert.Equal(("one ", true), Run(["END"], "one E", "N", "D two"));

    [Fact]
    public void WhatOnlyBeganLikeAStopTextIsShown() => Assert.Equal(("one ENter", false), Run(["END"], "one E", "N", "ter"));

    [Fact]
    public void WhatIsHeldBackAtTheEndIsShown() => Assert.Equal(("one EN", false), Run(["END"], "one EN"));

    [Fact]
    public void TheStopTextThatIsCompleteFirstCounts() => Assert.Equal(("a", true), Run(["abcX", "bc"], "abcX"));

    [Fact]
    public void OfTwoThatEndTogetherTheLongerCounts() => Assert.Equal(("", true), Run(["bc", "abc"], "abc"));

    [Fact]
    public void OverlappingBeginningsAreHeldBackAsFarAsNeeded() => Assert.Equal(("a", true), Run(["aab"], "aa", "ab"));

    [Fact]
    public void NothingComesAfterAStopText()
    {
        var filter = new StopFilter(["."]);
        Assert.Equal("a", filter.Append("a.b"));
        Assert.Equal("", filter.Append("c"));
        Assert.Equal("", filter.Finish());
    }

    [Fact]
    public void HowTheTextIsCutDoesNotShow()
    {
        var random = new Random(7);
        for (var round = 0; round < 2000; round++)
        {
            var text = string.Concat(Enumerable.Range(0, 30).Select(_ => "abc"[random.Next(3)]));
            string[] stops = [.. Enumerable.Range(0, 3).Select(_ => string.Concat(Enumerable.Range(0, 1 + random.Next(5)).Select(_ => "abc"[random.Next(3)])))];
            var pieces = new List<string>();
            for (var at = 0; at < text.Length;)
            {
                var length = Math.Min(1 + random.Next(6), text.Length - at);
                pieces.Add(text.Substring(at, length));
                at += length;
            }

            Assert.Equal(Run(stops, [.. text.Select(c => c.ToString())]), Run(stops, [.. pieces]));
        }
    }
}
