using LlmPipeline.Text.Cleaning;

namespace LlmPipeline.Text.Tests.Cleaning;

public sealed class QualityFilterTests
{
    [Theory]
    [InlineData("abc", 0)]
    [InlineData("a b\u0301 7", 0)]
    [InlineData("a!?.", 0.75)]
    [InlineData("\U0001F600\U0001F600a\u4eba", 0.5)]
    [InlineData("", 0)]
    public void SymbolRatioCountsCodePoints(string text, double expected) => Assert.Equal(expected, QualityFilter.SymbolRatio(text));

    [Theory]
    [InlineData("one\ntwo\nsix", 0)]
    [InlineData("one\none\nsix", 1.0 / 3)]
    [InlineData("one\n  one  \n\none\nsixsix", 6.0 / 15)]
    [InlineData("", 0)]
    public void RepeatedLineRatioIsTheShareOfCharactersInLinesSeenBefore(string text, double expected) =>
        Assert.Equal(expected, QualityFilter.RepeatedLineRatio(text), 12);

    [Theory]
    [InlineData("a b c d e f g", 0)]
    [InlineData("a b c d x a b c d y", 8.0 / 10)]
    [InlineData("a a a a a a", 1)]
    [InlineData("aa b c d aa b c d z x y w z x y w", 10.0 / 18)]
    [InlineData("\u4eba\u4eba\u4eba\u4eba\u4eba\u4eba", 1)]
    [InlineData("too few words", 0)]
    public void RepeatedNgramRatioCountsEachCoveredCharacterOnce(string text, double expected) =>
        Assert.Equal(expected, QualityFilter.RepeatedNgramRatio(text), 12);

    [Fact]
    public void RepeatedNgramRatioAgreesWithADirectCount()
    {
        var random = new Random(5);
        for (var trial = 0; trial < 300; trial++)
        {
            var words = Enumerable.Range(0, random.Next(4, 40)).Select(_ => new string((char)('a' + random.Next(3)), random.Next(1, 3))).ToArray();
            var grams = Enumerable.Range(0, words.Length - 3).GroupBy(i => string.Join(' ', words[i..(i + 4)])).Where(g => g.Count() > 1).ToList();
            var most = grams.Count == 0 ? 0 : grams.Max(g => g.Count());
            double Covered(IEnumerable<int> starts) => starts.SelectMany(i => Enumerable.Range(i, 4)).Distinct().Sum(i => words[i].Length);
            var best = grams.Count == 0 ? 0 : grams.Where(g => g.Count() == most).Max(Covered);
            Assert.Equal(best / words.Sum(w => w.Length), QualityFilter.RepeatedNgramRatio(string.Join(' ', words)), 12);
        }
    }

    [Theory]
    [InlineData("ab", DropReason.TooShort)]
    [InlineData("abcdefghijklmnopqrstu", DropReason.TooLong)]
    [InlineData("abc!!!!!!!", DropReason.Symbols)]
    [InlineData("abc\nabc\nabc", DropReason.RepeatedLines)]
    [InlineData("a b c d a b c d", DropReason.RepeatedNgrams)]
    [InlineData("a fine text", null)]
    public void DocumentIsDroppedForItsFirstFault(string text, DropReason? expected)
    {
        var options = new QualityOptions { MinCharacters = 3, MaxCharacters = 20, MaxSymbolRatio = 0.5, MaxRepeatedLineRatio = 0.5, MaxRepeatedNgramRatio = 0.9 };
        var counts = new CleaningCounts();
        Assert.Equal(expected, new DocumentCleaner(new CleaningOptions { Quality = options }).Clean(text, counts).Dropped);
        Assert.Equal(expected is null ? 0 : 1, counts.Dropped.Values.Sum());
    }

    [Fact]
    public void FiltersThatAreOffLetEverythingPass() => Assert.Null(new QualityFilter(new QualityOptions()).Judge("!\n!\n!\n!"));
}
