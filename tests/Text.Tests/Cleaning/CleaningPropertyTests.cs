using System.Text;
using FsCheck;
using FsCheck.Fluent;
using LlmPipeline.Text.Cleaning;

namespace LlmPipeline.Text.Tests.Cleaning;

public sealed class CleaningPropertyTests
{
    // Pieces in which markup, data and broken text meet; any other character comes between them.
    private static readonly string[] Pieces =
    [
        "a", "B", " ", "\n", "\r\n", "\t", "7", "42", ".", ",", "-", "@", "a@b.com", "+1 415 555 2671", "192.168.1.20", "fe80::1", "<b>", "</b>", "<p", ">", "<!--", "-->",
        "<script>", "</script>", "&amp;", "&#233;", "*", "**", "_", "`", "```\n", "[x](y)", "# ", "> ", "e\u0301", "\u0301", "\uD83D\uDE00", "\uD800", "\uDC00", "\uFFFE", "\0", "\uFEFF", "\u2014", "\u2026",
        "\u201C", "\u4eba", "\u0E01\u0E33", "\uFB01", "\u0130", "\u0664", "<EMAIL>", "<IP>", "\u212B", "\u0958",
    ];

    private static readonly Arbitrary<string> Texts = Gen.OneOf(Gen.Elements(Pieces), ArbMap.Default.GeneratorFor<char>().Select(c => c.ToString()))
        .ListOf().Select(string.Concat).ToArbitrary();

    private static readonly Config Checks = Config.QuickThrowOnFailure.WithMaxTest(2000);

    private static readonly CleaningOptions Everything = new()
    {
        Markup = MarkupMode.Strip,
        Unicode = UnicodeMode.Nfkc,
        LetterCase = LetterCaseMode.Lower,
        Punctuation = PunctuationMode.Normalize,
        Numbers = NumberMode.Zero,
        Whitespace = true,
        PersonalData = new PersonalDataOptions { Action = PersonalDataAction.Redact },
        Quality = new QualityOptions { MinCharacters = 1, MaxCharacters = 1 << 20, MaxSymbolRatio = 1, MaxRepeatedLineRatio = 1, MaxRepeatedNgramRatio = 1 },
    };

    public static TheoryData<string> Steps => new("nfc", "nfkc", "whitespace", "lower", "normalize", "punctuation", "zero", "numbers", "redact");

    [Theory]
    [MemberData(nameof(Steps))]
    public void EveryStepButMarkupIsIdempotent(string step)
    {
        var none = new CleaningOptions { Unicode = UnicodeMode.None };
        var options = step switch
        {
            "nfc" => none with { Unicode = UnicodeMode.Nfc },
            "nfkc" => none with { Unicode = UnicodeMode.Nfkc },
            "whitespace" => none with { Whitespace = true },
            "lower" => none with { LetterCase = LetterCaseMode.Lower },
            "normalize" => none with { Punctuation = PunctuationMode.Normalize },
            "punctuation" => none with { Punctuation = PunctuationMode.Remove },
            "zero" => none with { Numbers = NumberMode.Zero },
            "numbers" => none with { Numbers = NumberMode.Remove },
            _ => none with { PersonalData = new PersonalDataOptions { Action = PersonalDataAction.Redact } },
        };
        Check.One(Checks, Prop.ForAll(Texts, text => DocumentCleanerTests.Clean(text, options) is not { } once || DocumentCleanerTests.Clean(once, options) == once));
    }

    [Fact]
    public void AllStepsTogetherTakeAnyTextAndDoNotGrowIt() => Check.One(Checks, Prop.ForAll(Texts, text =>
    {
        // Form KC makes of one code point up to 18 (U+FDFA); a mark, an ellipsis and the final form are smaller than that.
        var counts = new CleaningCounts();
        var cleaned = new DocumentCleaner(Everything).Clean(text, counts);
        var removed = counts.Steps.Values.Sum(s => s.CharactersRemoved);
        return (cleaned.Text?.Length ?? 0) <= 18 * text.Length && counts.Documents == 1
            && (cleaned.Text is null || Math.Abs(CodePoints.Count(text) - CodePoints.Count(cleaned.Text) - removed) <= text.Length);
    }));

    [Fact]
    public void StrippingMarkupNeverGrowsText() => Check.One(Checks, Prop.ForAll(Texts, text => MarkupStep.Apply(text).Length <= text.Length));

    [Fact]
    public void RedactionLeavesNoMatch() => Check.One(Checks, Prop.ForAll(Texts, text =>
    {
        var redacted = new PersonalDataStep(new PersonalDataOptions { Action = PersonalDataAction.Redact }).Apply(text, new CleaningCounts());
        var left = new CleaningCounts();
        new PersonalDataStep(new PersonalDataOptions { Action = PersonalDataAction.Find }).Apply(redacted, left);
        return left.PersonalData.Count == 0;
    }));

    [Theory]
    [InlineData(NormalizationForm.FormC)]
    [InlineData(NormalizationForm.FormKC)]
    public void NormalizationIsTheFrameworksWhereThatTakesTheText(NormalizationForm form) => Check.One(Checks, Prop.ForAll(Texts, text =>
    {
        var valid = string.Concat(text.EnumerateRunes().Select(r => r.ToString())).Replace('\uFFFE', 'x');
        return UnicodeStep.Apply(valid, form) == valid.Normalize(form);
    }));

    [Fact]
    public void CleanedTextIsNormalized() => Check.One(Checks, Prop.ForAll(Texts, text =>
    {
        var cleaned = DocumentCleanerTests.Clean(text, Everything with { Punctuation = PunctuationMode.Remove, Numbers = NumberMode.Remove });
        return cleaned is null || UnicodeStep.Apply(cleaned, NormalizationForm.FormKC) == cleaned;
    }));

    [Fact]
    public void CodePointsAndSignaturesAreOfTheUtf8Text() => Check.One(Checks, Prop.ForAll(Texts, text =>
    {
        var utf8 = Encoding.UTF8.GetBytes(text);
        var signer = new DocumentSigner(new DuplicateOptions { Near = NearDuplicateMode.Remove });
        return CodePoints.Count(text) == text.EnumerateRunes().LongCount() && signer.Sign(utf8) == signer.Sign(utf8);
    }));

    [Fact]
    public void WordsAreThoseOfADirectReading() => Check.One(Checks, Prop.ForAll(Texts, text =>
    {
        var expected = new List<string>();
        var (word, previous) = ("", WordClass.None);
        foreach (var rune in text.EnumerateRunes())
        {
            var current = WordCharacters.ClassOf(rune.Value);
            if (current == WordClass.None || current == WordClass.Alone || (current == WordClass.Letter && previous == WordClass.Alone))
            {
                expected.Add(word);
                (word, previous) = ("", WordClass.None);
            }

            word += current == WordClass.None ? "" : rune.ToString();
            previous = current == WordClass.Mark && previous != WordClass.None ? previous : current;
        }

        expected.Add(word);
        return HashesOf(text).SequenceEqual(expected.Where(w => w.Length > 0).Select(w => HashesOf(w.ToLowerInvariant()).Single()));
    }));

    [Fact]
    public void CountsAreTheSameInWhateverOrderTheyAreMerged() => Check.One(Checks, Prop.ForAll(Texts, Texts, (first, second) =>
    {
        var (a, b, both) = (new CleaningCounts(), new CleaningCounts(), new CleaningCounts());
        var cleaner = new DocumentCleaner(Everything);
        cleaner.Clean(first, a);
        cleaner.Clean(second, b);
        cleaner.Clean(first, both);
        cleaner.Clean(second, both);
        var reversed = CleaningCounts.FromJson(b.ToJson());
        reversed.Merge(a);
        a.Merge(b);
        return a.ToJson() == both.ToJson() && reversed.ToJson() == both.ToJson();
    }));

    private static List<ulong> HashesOf(string text)
    {
        var hashes = new List<ulong>();
        var words = new WordHashes(Encoding.UTF8.GetBytes(text));
        while (words.MoveNext())
        {
            hashes.Add(words.Current);
        }

        return hashes;
    }
}
