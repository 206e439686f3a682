using System.Text;
using System.Text.Json;
using LlmPipeline.Fakes;
using LlmPipeline.Text.Reports;
using LlmPipeline.Text.Tests.Tokenizers;

namespace LlmPipeline.Text.Tests.Reports;

public sealed class TokenizerReportTests
{
    private static readonly Lazy<ITokenizer> Gpt2 = new(() => TokenizerFile.Load(TestData.PathOf("gpt2-bpe")));

    [Theory]
    [InlineData("wikitext-2/test.txt", 295_877, 4.247, 1.227)]
    [InlineData("wikitext-2/valid.txt", 258_659, 4.337, 1.209)]
    [InlineData("botchan/botchan.txt", 69_372, 3.957, 1.367)]
    public void Gpt2HasItsPublishedFigures(string file, long tokens, double bytesPerToken, double tokensPerWord)
    {
        var reporter = new TokenizerReporter("GPT-2", Gpt2.Value);
        reporter.Add("text", Encoding.UTF8.GetBytes(Encoding.UTF8.GetString(File.ReadAllBytes(TestData.PathOf(file))).Replace("\r\n", "\n", StringComparison.Ordinal)));
        var measure = reporter.ToReport().Labels.Single();
        Assert.Equal(tokens, measure.Tokens);
        Assert.Equal(bytesPerToken, measure.BytesPerToken, 0.0006);
        Assert.Equal(tokensPerWord, measure.TokensPerWord, 0.0006);
        Assert.Equal(0, measure.UnknownTokens);
    }

    [Fact]
    public void Gpt2HasItsPublishedRatiosToEnglish()
    {
        var reporter = new TokenizerReporter("GPT-2", Gpt2.Value);
        foreach (var (name, text) in TestTexts.Languages)
        {
            reporter.Add(name, Encoding.UTF8.GetBytes(text));
        }

        var report = reporter.ToReport("eng");
        var ratios = report.Labels.ToDictionary(l => l.Label, l => Math.Round(l.Ratio!.Value, 2));
        (string Label, double Ratio)[] published =
        [
            ("swh", 1.47), ("fra", 1.54), ("spa", 1.56), ("por_PT", 1.59), ("ita", 1.69), ("deu", 1.70), ("nld", 1.76), ("ind", 1.77), ("swe", 1.80), ("tur", 1.82), ("cmn_hant", 1.85),
            ("hun", 2.17), ("jpn", 2.26), ("arb", 2.55), ("heb", 2.79), ("kor", 3.18), ("rus", 3.99), ("ell_monotonic", 4.35), ("tha", 5.26), ("hin", 5.37), ("ben", 5.66), ("hye", 6.69),
            ("kan", 8.12), ("khm", 8.75), ("lao", 8.85), ("bod", 9.56), ("tam", 10.97), ("mya", 12.37),
        ];
        Assert.All(published, p => Assert.Equal(p.Ratio, ratios[p.Label], 0.011));
        Assert.Equal(1, ratios["eng"]);
    }

    [Fact]
    public void UnknownTokensAreCountedAndTheReferenceStandsBeside()
    {
        var options = new TokenizerOptions { Kind = "word", VocabularySize = 0 };
        var words = TokenizerTrainer.Train(TestTexts.Count(TokenizerTrainer.SplitterOf(options), "the cat the dog"), options);
        var reporter = new TokenizerReporter("words", words, ("characters", CharacterTokenizer.Create(["the cat dog"])));
        reporter.Add("a", "the cat the mouse"u8);
        reporter.Add("b|c", "the dog"u8);
        reporter.Add("a", "the"u8);
        var report = reporter.ToReport("b|c");
        Assert.Equal([("a", 5L, 1L, 20L), ("b|c", 2L, 0L, 7L)], report.Labels.Select(l => (l.Label, l.Tokens, l.UnknownTokens, l.ReferenceTokens!.Value)));
        Assert.Equal(0.2, report.Labels[0].UnknownRate);
        Assert.Equal(2.5, report.Labels[0].Ratio);
        Assert.Equal(7, report.Total.Words);
        var markdown = report.ToMarkdown();
        Assert.Contains("| a | 20 | 5 | 5 (20) | 1.000 (4.000) | 4.000 (1.000) | 20.00 % | 2.50 (2.86) |", markdown, StringComparison.Ordinal);
        Assert.Contains("| b/c |", markdown, StringComparison.Ordinal);
        Assert.Contains("| all | 27 |", markdown, StringComparison.Ordinal);
        using var json = JsonDocument.Parse(report.ToJson());
        Assert.Equal(1, json.RootElement.GetProperty("labels")[0].GetProperty("unknown_tokens").GetInt64());
        Assert.Equal("characters", json.RootElement.GetProperty("reference").GetString());
        Assert.Contains("'x'", Assert.Throws<InvalidDataException>(() => reporter.ToReport("x")).Message, StringComparison.Ordinal);
    }
}
