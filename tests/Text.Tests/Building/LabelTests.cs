using LlmPipeline.Fakes;
using LlmPipeline.Storage;
using LlmPipeline.Text.Building;
using LlmPipeline.Text.Shards;
using LlmPipeline.Text.Sources;
using LlmPipeline.Text.Tests.Sources;

namespace LlmPipeline.Text.Tests.Building;

public sealed class LabelTests : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly TemporaryFolder _folder = new();
    private readonly IBlobStore _store;

    public LabelTests() => _store = BlobStore.Open($"folder={Path.Combine(_folder.Path, "store")}");

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("a.jsonl")]
    [InlineData("a.csv")]
    public async Task TheIdOfItsClassEndsADocumentWhateverTheUnits(string file)
    {
        string[] labels = ["7", "good", "tr\u00fcb"];
        var lines = Enumerable.Range(0, 900).Select(i => (Text: $"text number {i}", Label: labels[i * 7 % 11 % 3])).ToList();
        _folder.Write(file, file == "a.csv" ? "id,kind,text\n" + string.Concat(lines.Select((l, i) => $"{i},{l.Label},\"{l.Text}\"\n"))
            : string.Concat(lines.Select(l => $"{{\"kind\": {(l.Label == "7" ? "7" : $"\"{l.Label}\"")}, \"text\": \"{l.Text}\"}}\n")));
        var recipe = Recipe() with { Sources = [Path.Combine(_folder.Path, file)], LabelField = "kind", ValidationFraction = 0.2 };
        var properties = await BuildAsync(recipe, "datasets/whole");
        Assert.Equal(labels, properties.Labels!);
        var documents = new List<(string Text, string Label)>();
        using (var dataset = await TokenDataset.OpenAsync(_store, "datasets/whole"))
        {
            foreach (var split in properties.Splits)
            {
                documents.AddRange(Documents(dataset, split.Split));
            }
        }

        Assert.Equal(lines.OrderBy(l => l.Text, StringComparer.Ordinal), documents.OrderBy(l => l.Text, StringComparer.Ordinal));
        Assert.InRange(properties.Splits[1].DocumentCount, 120, 240);
        Assert.Equal(documents, documents.Distinct());

        await BuildAsync(recipe, "datasets/units", unitBytes: 3000);
        foreach (var name in new[] { "train-00000.bin", "train.documents", "validation-00000.bin", "validation.documents" })
        {
            Assert.Equal(await File.ReadAllBytesAsync(Path.Combine(_folder.Path, "store/datasets/whole", name)), await File.ReadAllBytesAsync(Path.Combine(_folder.Path, "store/datasets/units", name)));
        }
    }

    [Fact]
    public async Task FilesOfLinesAreLabelledByTheirPart()
    {
        _folder.Write("neg.txt", string.Concat(Enumerable.Range(0, 120).Select(i => $"bad {i}\r\n\n")));
        _folder.Write("pos.txt", string.Concat(Enumerable.Range(0, 130).Select(i => $"fine {i}\n")) + "the last");
        var recipe = Recipe() with
        {
            Mixture = [new MixturePart([Path.Combine(_folder.Path, "pos.txt")], "positive"), new MixturePart([Path.Combine(_folder.Path, "neg.txt")], "negative")],
            LabelParts = true,
            Lines = true,
            Order = DocumentOrder.Shuffled,
        };
        var properties = await BuildAsync(recipe, "datasets/parts");
        Assert.Equal(["positive", "negative"], properties.Labels!);
        using var dataset = await TokenDataset.OpenAsync(_store, "datasets/parts");
        var documents = properties.Splits.SelectMany(s => Documents(dataset, s.Split)).ToList();
        Assert.Equal(251, documents.Count);
        Assert.All(documents, d => Assert.Equal(d.Text.StartsWith("bad", StringComparison.Ordinal) ? "negative" : "positive", d.Label));
        Assert.Contains(("the last", "positive"), documents);
        Assert.NotEqual(documents.OrderBy(d => d.Label, StringComparer.Ordinal), documents);
    }

    [Fact]
    public async Task ATextColumnOfParquetNamesTheClass()
    {
        _folder.Write("a.parquet", await SourceFormatTests.ParquetAsync(2, 10));
        var properties = await BuildAsync(Recipe() with { Sources = [Path.Combine(_folder.Path, "a.parquet")], TextField = "text", LabelField = "meta.body" }, "datasets/parquet");
        Assert.Equal(20, properties.Labels!.Count);
        using var dataset = await TokenDataset.OpenAsync(_store, "datasets/parquet");
        Assert.All(properties.Splits.SelectMany(s => Documents(dataset, s.Split)), d => Assert.Equal(d.Text.Replace("row", "body", StringComparison.Ordinal), d.Label));
    }

    [Theory]
    [InlineData("a.jsonl", "{\"text\": \"a\", \"kind\": \"x\"}\n{\"text\": \"b\"}\n", "has no label in 'kind'")]
    [InlineData("a.jsonl", "{\"text\": \"a\", \"kind\": \"x\"}\n{\"text\": \"b\", \"kind\": 1.5}\n", "has no label in 'kind'")]
    [InlineData("a.jsonl", "{\"text\": \"a\", \"kind\": \"x\"}\n{\"text\": \"b\", \"kind\": \"x\"}\n", "1 different labels in 'kind', 'x'")]
    [InlineData("a.csv", "text,kind\na,x\nb,\n", "has no label")]
    [InlineData("a.csv", "text,sort\na,x\n", "has no column 'kind'")]
    public async Task WhatHasNoLabelIsNamed(string file, string content, string message)
    {
        _folder.Write(file, content);
        var error = await Assert.ThrowsAsync<TextSourceException>(() => BuildAsync(Recipe() with { Sources = [Path.Combine(_folder.Path, file)], LabelField = "kind" }, "datasets/wrong"));
        Assert.Contains(message, error.Message, StringComparison.Ordinal);
    }

    private static DatasetRecipe Recipe() => new()
    {
        Tokenizer = new TokenizerRecipe { Options = new TokenizerOptions { Kind = "character" } },
        SplitMethod = SplitMethod.Document,
        ValidationFraction = 0.3,
    };

    private static IEnumerable<(string Text, string Label)> Documents(TokenDataset dataset, string name)
    {
        var split = dataset.Split(name);
        for (var i = 0; i < split.DocumentCount; i++)
        {
            var (start, length) = split.Document(i);
            var ids = new int[length];
            split.Read(start, ids);
            yield return (dataset.Tokenizer.Decode(ids.AsSpan(0, length - 1)), dataset.Properties.Labels![ids[^1] - dataset.Tokenizer.VocabularySize]);
        }
    }

    private Task<DatasetProperties> BuildAsync(DatasetRecipe recipe, string name, long unitBytes = DatasetBuilderOptions.DefaultUnitBytes) =>
        new DatasetBuilder(_store, new DatasetBuilderOptions(_folder.Path, 2) { UnitBytes = unitBytes })
            .BuildAsync(recipe, new DatasetTarget(name), new BuildProgress(), _ => Task.CompletedTask).WaitAsync(Patience);
}
