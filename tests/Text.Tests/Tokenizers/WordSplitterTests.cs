using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
using FsCheck;
using FsCheck.Fluent;

namespace LlmPipeline.Text.Tests.Tokenizers;

public sealed class WordSplitterTests
{
    // Characters of all classes, inside and outside the Basic Multilingual Plane, and sequences that end alternatives of the patterns.
    private static readonly string[] Pieces =
    [
        " ", "  ", "\n", "\r", "\r\n", "\n\n", "\t", "\u00a0", "\u2003", "\u2028", "\u0085", "\u000b", "\u200b", "a", "b", "Z", "\u00e9", "e\u0301", "\u0301", "\u20dd", "\u0bcd",
        "\u0f0b", "\u0f0c", "\u200c", "\u200d", "\u05d0", "\u0627", "\u4e2d", "\u3042", "0", "7", "1234", "\u0663", "\u00b2", "\u2167", "\u00bd", ".", ",", "!", "_", "-", "'", "'s", "'S", "'re", "'r",
        "'LL", "'l", "'ve", "'d", "'m", "'t", "\u2019s", "\U0001F600", "\U0001F468\u200D\U0001F469", "\ufffd", "\0", "\u001c", "\u180e", "\u02b0", "\u16ee", "<|endoftext|>", "\U00020000", "\U0001D400",
        "\U0001D7D9", "\U0001E8D0", "\U0010FFFF", "\ud800", "\udc00", "\ufeff", "\ue000",
    ];

    private static readonly Config Checks = Config.QuickThrowOnFailure.WithMaxTest(4000);

    public static TheoryData<string> Known => new("default", "gpt2", "gpt4");

    internal static Arbitrary<string> Texts { get; } = Gen.OneOf(Gen.Elements(Pieces), Gen.Elements(Pieces), ArbMap.Default.GeneratorFor<char>().Select(c => c.ToString()))
        .ListOf().Select(string.Concat).ToArbitrary();

    [Theory]
    [MemberData(nameof(Known))]
    public void AnyTextIsCutAsTheRegexCutsIt(string name)
    {
        var splitter = WordSplitter.Create(name);
        var regex = new Regex(splitter.Pattern, RegexOptions.CultureInvariant);
        Prop.ForAll(Texts, text => ExpectedCuts(regex, text).SequenceEqual(Cuts(splitter, text))).Check(Checks);
    }

    [Theory]
    [MemberData(nameof(Known))]
    public void RealTextsAreCutAsTheRegexCutsThem(string name)
    {
        var splitter = WordSplitter.Create(name);
        var regex = new Regex(splitter.Pattern, RegexOptions.CultureInvariant);
        foreach (var (language, text) in TestTexts.Languages)
        {
            Assert.True(ExpectedCuts(regex, text).SequenceEqual(Cuts(splitter, text)), language);
        }
    }

    [Theory]
    [MemberData(nameof(Known))]
    public void TheRegexItselfGivesTheSameWordsWhereAllCharactersAreOneUnit(string name)
    {
        var known = WordSplitter.Create(name);
        var regex = new RegexSplitter(known.Pattern);
        foreach (var (language, text) in TestTexts.Languages.Where(l => !l.Text.Any(char.IsSurrogate)))
        {
            Assert.True(TestTexts.Split(known, text).SequenceEqual(TestTexts.Split(regex, text)), language);
        }
    }

    [Theory]
    [MemberData(nameof(Known))]
    public void CuttingAtASafePlaceChangesNoWord(string name)
    {
        var splitter = WordSplitter.Create(name);
        Prop.ForAll(Texts, Gen.Choose(0, 200).ToArbitrary(), (text, seen) =>
        {
            var utf8 = Encoding.UTF8.GetBytes(text);
            var cut = splitter.LastSafeCut(utf8.AsSpan(0, Whole(utf8, seen)));
            return TestTexts.Split(splitter, text).SequenceEqual(
                TestTexts.Split(splitter, Encoding.UTF8.GetString(utf8.AsSpan(0, cut))).Concat(TestTexts.Split(splitter, Encoding.UTF8.GetString(utf8.AsSpan(cut)))));
        }).Check(Checks);
        Assert.Equal(3, splitter.LastSafeCut("the "u8));
        Assert.Equal(0, splitter.LastSafeCut("12 34"u8));

        static int Whole(byte[] utf8, int seen)
        {
            seen = Math.Min(seen, utf8.Length);
            while (seen < utf8.Length && (utf8[seen] & 0xC0) == 0x80)
            {
                seen--;
            }

            return seen;
        }
    }

    [Theory]
    [InlineData("default", "Don't l'homme 12345!", "Don|'t| l|'homme| |123|45|!")]
    [InlineData("gpt2", "Don't l'homme 12345!", "Don|'t| l|'|homme| 12345|!")]
    [InlineData("gpt4", "DON'T l'homme 12345!\n\n  x", "DON|'T| l|'homme| |123|45|!\n\n| | x")]
    [InlineData("default", "\u0ba4\u0bae\u0bbf\u0bb4\u0bcd \u0bae\u0bca\u0bb4\u0bbf", "\u0ba4\u0bae\u0bbf\u0bb4\u0bcd| \u0bae\u0bca\u0bb4\u0bbf")]
    [InlineData("gpt4", "\u0bae\u0bca\u0bb4\u0bbf", "\u0bae|\u0bca\u0bb4|\u0bbf")]
    [InlineData("default", "\u1019\u103c\u1014\u103a\u1019\u102c \u1005\u102c", "\u1019\u103c\u1014\u103a\u1019\u102c| \u1005\u102c")]
    [InlineData("default", "\u0f56\u0f7c\u0f51\u0f0b\u0f66\u0f90\u0f51\u0f0d", "\u0f56\u0f7c\u0f51\u0f0b\u0f66\u0f90\u0f51|\u0f0d")]
    [InlineData("default", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645")]
    [InlineData("default", "\u2764\ufe0f\u200d\U0001F525 ok", "\u2764\ufe0f\u200d\U0001F525| ok")]
    public void WordsAreThoseOneExpects(string name, string text, string words) => Assert.Equal(words.Split('|'), TestTexts.Split(WordSplitter.Create(name), text));

    [Fact]
    public void AnyRegularExpressionSplitsAndWhatLiesBetweenItsMatchesAreWordsToo()
    {
        var splitter = WordSplitter.Create("[a-z]+");
        Assert.Equal(["ab", "1 ", "c", "!"], TestTexts.Split(splitter, "ab1 c!"));
        Assert.Equal(("[a-z]+", "[a-z]+", 0), (splitter.Name, splitter.Pattern, splitter.LastSafeCut("ab 12"u8)));
        Assert.Equal(["x", "\U0001F600", "y"], TestTexts.Split(WordSplitter.Create("."), "x\U0001F600y"));
        Assert.Equal(["ab", "cb", "d"], TestTexts.Split(WordSplitter.Create("(?<=b)"), "abcbd"));
        Prop.ForAll(Texts, text => string.Concat(TestTexts.Split(splitter, text)) == Encoding.UTF8.GetString(Encoding.UTF8.GetBytes(text))).Check(Checks);
    }

    [Theory]
    [InlineData("gpt5", "is not known: use default, gpt2, gpt4, or a .NET regular expression")]
    [InlineData("", "is not known")]
    [InlineData("(", "is not a .NET regular expression: ")]
    [InlineData("\\p{Klingon}+", "is not a .NET regular expression: ")]
    public void APatternThatCannotBeUsedIsNamed(string pattern, string message) =>
        Assert.Contains(message, Assert.Throws<InvalidDataException>(() => WordSplitter.Create(pattern)).Message, StringComparison.Ordinal);

    [Fact]
    public void APatternThatTakesTooLongFailsWithTheRemedy()
    {
        var splitter = new RegexSplitter("(a+)+$", TimeSpan.FromMilliseconds(50));
        var error = Assert.Throws<InvalidDataException>(() => TestTexts.Split(splitter, new string('a', 40) + "!"));
        Assert.Contains("\"(a+)+$\" took more than", error.Message, StringComparison.Ordinal);
        Assert.Contains("simplify it", error.Message, StringComparison.Ordinal);
    }

    // The regex sees halves of surrogate pairs: it gets a character of the same class in their place, and cuts are counted in code points.
    private static List<int> ExpectedCuts(Regex regex, string text)
    {
        var runes = Encoding.UTF8.GetString(Encoding.UTF8.GetBytes(text)).EnumerateRunes();
        var cuts = new List<int>();
        foreach (Match match in regex.Matches(string.Concat(runes.Select(r => r.IsBmp ? (char)r.Value : StandIn(r)))))
        {
            cuts.Add(match.Index + match.Length);
        }

        return cuts;
    }

    private static char StandIn(Rune rune) => Rune.GetUnicodeCategory(rune) switch
    {
        <= UnicodeCategory.OtherLetter => '\u4e00',
        UnicodeCategory.NonSpacingMark or UnicodeCategory.SpacingCombiningMark or UnicodeCategory.EnclosingMark => '\u0308',
        UnicodeCategory.DecimalDigitNumber or UnicodeCategory.LetterNumber or UnicodeCategory.OtherNumber => '\u0664',
        _ => '\u2603',
    };

    private static List<int> Cuts(IWordSplitter splitter, string text)
    {
        var (cuts, at) = (new List<int>(), 0);
        foreach (var word in TestTexts.Split(splitter, text))
        {
            cuts.Add(at += word.EnumerateRunes().Count());
        }

        return cuts;
    }
}
