using System.Text;
using System.Text.Json;
using LlmPipeline.Text.Cleaning;
using LlmPipeline.Text.Reports;

namespace LlmPipeline.Text.Tests.Reports;

public sealed class DataCardTests
{
    [Fact]
    public void CardSurvivesItsJson()
    {
        var card = Card();
        var json = card.ToJson();
        Assert.Equal(json, DataCard.FromJson(Encoding.UTF8.GetBytes(json)).ToJson());
        using var document = JsonDocument.Parse(json);
        Assert.Equal("data-card/1", document.RootElement.GetProperty("format").GetString());
        Assert.Equal(3, document.RootElement.GetProperty("cleaning").GetProperty("steps").GetProperty("markup").GetProperty("documents_changed").GetInt64());
        Assert.DoesNotContain('\r', json);
    }

    [Fact]
    public void MarkdownSaysEverythingThatWasCounted()
    {
        var markdown = Card().ToMarkdown();
        foreach (var line in new[]
        {
            "# Data card: datasets/d-1",
            "| train | 1,234 | 5,000 | 20,000 | 19,000 | 4.00 |",
            "| a\\|b &lt;x>.txt | 2 | 30,000 | 1,234 | 2 |",
            "| en-Latn | 1,000 | 15,000 | 75.0 % |",
            "| markup | 3 | 120 | 130 |",
            "| too_short | 7 |",
            "| email | 4 | 4 |",
            "11 documents have the text of an earlier one and were left out. 5 more are near-duplicates of another (estimated Jaccard similarity of word 5-grams 0.8 or more); they were left out.",
            "2 records could not be read and were skipped. The first: line 3: bad",
            "0 documents have the text of one in another split; 0 are similar to one in another split.",
            "2.0 % of the different word 13-grams of validation occur in train (2 of 100, one in 8 compared).",
        })
        {
            Assert.Contains(line + "\n", markdown, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void CardOfAnotherFormatIsRefused()
    {
        var other = Card() with { Format = "data-card/9" };
        Assert.Contains("data-card/9", Assert.Throws<JsonException>(() => DataCard.FromJson(Encoding.UTF8.GetBytes(other.ToJson()))).Message, StringComparison.Ordinal);
        Assert.Throws<JsonException>(() => DataCard.FromJson("{}"u8));
        Assert.Throws<JsonException>(() => DataCard.FromJson("null"u8));
    }

    private static DataCard Card()
    {
        var cleaning = new CleaningCounts { Documents = 1300, DocumentsKept = 1293 };
        cleaning.Steps["markup"] = new StepCounts(3, 120, 130);
        cleaning.Dropped["too_short"] = 7;
        cleaning.PersonalData["email"] = new PersonalDataCounts(4, 4);
        var languages = new LanguageCounts();
        languages.Languages["en-Latn"] = new LanguageSize(1000, 15_000);
        languages.Languages["el-Grek"] = new LanguageSize(234, 5_000);
        return new DataCard
        {
            Dataset = "datasets/d-1",
            Tokenizer = "tokenizers/bpe-300",
            VocabularySize = 300,
            Sources = [new CardSource("a|b <x>.txt", 2, 30_000, 1234, 2)],
            Splits = [new CardSplit("train", 1234, 5000, 20_000, 19_000)],
            Languages = languages,
            Cleaning = cleaning,
            Duplicates = new CardDuplicates(11, 5, true, "remove", 0.8),
            Skipped = new CardSkipped(2, "line 3: bad"),
            Leaks = new CardLeaks(new SplitLeaks(0, 0), new(StringComparer.Ordinal) { ["validation"] = new NgramShare(100, 2, 8) }),
        };
    }
}
