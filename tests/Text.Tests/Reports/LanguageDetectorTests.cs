using System.Text;
using LlmPipeline.Fakes;
using LlmPipeline.Text.Reports;

namespace LlmPipeline.Text.Tests.Reports;

public sealed class LanguageDetectorTests
{
    // Files of the Universal Declaration, and what they are to be taken for. Languages that are not told apart are left out.
    private static readonly Dictionary<string, string> Expected = new()
    {
        ["amh"] = "am-Ethi",
        ["arb"] = "ar-Arab",
        ["ben"] = "bn-Beng",
        ["bod"] = "bo-Tibt",
        ["bul"] = "bg-Cyrl",
        ["ces"] = "cs-Latn",
        ["chr"] = "chr-Cher",
        ["cmn_hans"] = "zh-Hani",
        ["cmn_hant"] = "zh-Hani",
        ["deu"] = "de-Latn",
        ["ell_monotonic"] = "el-Grek",
        ["eng"] = "en-Latn",
        ["fin"] = "fi-Latn",
        ["fra"] = "fr-Latn",
        ["heb"] = "he-Hebr",
        ["hin"] = "hi-Deva",
        ["hun"] = "hu-Latn",
        ["hye"] = "hy-Armn",
        ["ind"] = "id-Latn",
        ["ita"] = "it-Latn",
        ["jpn"] = "ja-Jpan",
        ["kan"] = "kn-Knda",
        ["kat"] = "ka-Geor",
        ["khm"] = "km-Khmr",
        ["kor"] = "ko-Hang",
        ["lao"] = "lo-Laoo",
        ["mal"] = "ml-Mlym",
        ["mya"] = "my-Mymr",
        ["nld"] = "nl-Latn",
        ["pes_1"] = "fa-Arab",
        ["pol"] = "pl-Latn",
        ["por_PT"] = "pt-Latn",
        ["rus"] = "ru-Cyrl",
        ["spa"] = "es-Latn",
        ["srp_cyrl"] = "sr-Cyrl",
        ["swe"] = "sv-Latn",
        ["swh"] = "sw-Latn",
        ["tam"] = "ta-Taml",
        ["tha"] = "th-Thai",
        ["tur"] = "tr-Latn",
        ["ukr"] = "uk-Cyrl",
        ["urd"] = "ur-Arab",
        ["vie"] = "vi-Latn",
    };

    [Theory]
    [InlineData("", "und-und")]
    [InlineData("42!", "und-und")]
    [InlineData("Hello", "und-Latn")]
    [InlineData("The cat is on the mat and it was not there before", "en-Latn")]
    [InlineData("Der Hund ist nicht in dem Haus und die Katze auch nicht", "de-Latn")]
    [InlineData("\u3053\u308c\u306f\u65e5\u672c\u8a9e\u3067\u3059", "ja-Jpan")]
    [InlineData("\u8fd9\u662f\u4e2d\u6587", "zh-Hani")]
    public void LanguageAndScriptAreTold(string text, string expected) => Assert.Equal(expected, Detect(text));

    [Fact]
    public void DeclarationIsToldInEveryLanguageOfTheSet()
    {
        var folder = Path.GetDirectoryName(TestData.PathOf("udhr/README.md"))!;
        var wrong = Expected.Select(e => (e.Key, Expected: e.Value, Found: Detect(File.ReadAllText(Path.Combine(folder, e.Key + ".txt")).Normalize()))).Where(e => e.Expected != e.Found).ToList();
        Assert.Empty(wrong);
    }

    [Fact]
    public void MostArticlesAreToldOnTheirOwn()
    {
        // Lines of 100 characters or more, in the languages that are told by words.
        var folder = Path.GetDirectoryName(TestData.PathOf("udhr/README.md"))!;
        var (right, wrong, all) = (0, 0, 0);
        foreach (var (file, language) in Expected.Where(e => LanguageDetector.WordLanguages.Contains(e.Value.Split('-')[0])))
        {
            foreach (var line in File.ReadLines(Path.Combine(folder, file + ".txt")).Where(l => l.Length >= 100))
            {
                var found = Detect(line.Normalize());
                all++;
                right += found == language ? 1 : 0;
                wrong += found != language && !found.StartsWith(LanguageDetector.Undetermined, StringComparison.Ordinal) ? 1 : 0;
            }
        }

        var report = $"{right} of {all} lines were told, {wrong} were taken for another language";
        TestContext.Current.TestOutputHelper?.WriteLine(report);
        Assert.True(right >= 0.9 * all && wrong <= 0.03 * all, report);
    }

    [Fact]
    public void CountsMergeInAnyOrder()
    {
        var (a, b) = (new LanguageCounts(), new LanguageCounts());
        a.Add(new DetectedLanguage("en", "Latn"), 10);
        b.Add(new DetectedLanguage("en", "Latn"), 5);
        b.Add(new DetectedLanguage("el", "Grek"), 7);
        var reversed = LanguageCounts.FromJson(b.ToJson());
        reversed.Merge(a);
        a.Merge(b);
        Assert.Equal(a.ToJson(), reversed.ToJson());
        Assert.Equal(new LanguageSize(2, 15), a.Languages["en-Latn"]);
    }

    private static string Detect(string text)
    {
        var found = LanguageDetector.Detect(Encoding.UTF8.GetBytes(text));
        return $"{found.Language}-{found.Script}";
    }
}
