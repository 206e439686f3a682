using FsCheck;
using FsCheck.Fluent;
using LlmPipeline.Fakes;
using LlmPipeline.Storage;
using LlmPipeline.Text.Building;
using LlmPipeline.Text.Shards;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Text.Tests.Building;

public sealed class MixtureTests : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly TemporaryFolder _folder = new();
    private readonly IBlobStore _store;

    public MixtureTests() => _store = BlobStore.Open($"folder={Path.Combine(_folder.Path, "store")}");

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(DocumentOrder.Source)]
    [InlineData(DocumentOrder.Shuffled)]
    [InlineData(DocumentOrder.Length)]
    public async Task SharesFollowTheWeightsToTheToken(DocumentOrder order)
    {
        // Part a is cut, part b repeated: 3 to 1 of 20,001 tokens.
        var recipe = Recipe(("a", 2000, 3), ("b", 60, 1)) with { MaxTokens = 20_001, Order = order };
        var properties = await BuildAsync(recipe);
        Assert.Equal(20_001, properties.Splits[0].TokenCount);
        Assert.Equal([15_001L, 5_000L], properties.Mixture!.Select(p => p.TokenCount));
        Assert.True(properties.Mixture![0].AvailableTokens > 15_001 && properties.Mixture[1].AvailableTokens < 2_500);

        var documents = await DocumentsAsync("train");
        Assert.Equal(properties.Splits[0].DocumentCount, documents.Count);
        Assert.Equal(15_001, documents.Where(d => d.Text[0] == 'a').Sum(d => d.Tokens));
        Assert.Equal(5_000, documents.Where(d => d.Text[0] == 'b').Sum(d => d.Tokens));
        Assert.Equal(properties.Splits[0].ByteCount, documents.Sum(d => (long)d.Text.Length));

        // Every document of b comes as often as any other, give or take one.
        var copies = documents.Where(d => d.Text[0] == 'b' && d.Text[^1] == '.').CountBy(d => d.Text).Select(c => c.Value).ToList();
        Assert.True(copies.Max() - copies.Min() <= 1 && copies.Min() >= 2);
        AssertOrder(order, documents);
    }

    [Theory]
    [InlineData(DocumentOrder.Shuffled)]
    [InlineData(DocumentOrder.Length)]
    public async Task OrderChangesTheOrderAlone(DocumentOrder order)
    {
        var recipe = Recipe(("a", 500, null), ("b", 300, null));
        await BuildAsync(recipe with { Order = DocumentOrder.Source });
        var source = await DocumentsAsync("train");
        await BuildAsync(recipe with { Order = order });
        var ordered = await DocumentsAsync("train");
        Assert.Equal(source.Order(), ordered.Order());
        Assert.NotEqual(source, ordered);
        AssertOrder(order, ordered);
        AssertOrder(DocumentOrder.Source, source);
        if (order == DocumentOrder.Shuffled)
        {
            Assert.InRange(ordered.Take(ordered.Count / 2).Count(d => d.Text[0] == 'a') / (ordered.Count / 2.0), 0.5, 0.75);
        }
    }

    [Fact]
    public async Task WithoutWeightsEverythingIsWrittenOnceAndALimitCuts()
    {
        var recipe = Recipe(("a", 100, null), ("b", 50, null));
        var all = await BuildAsync(recipe);
        Assert.All(all.Mixture!, p => Assert.Equal(p.AvailableTokens, p.TokenCount));
        var limited = await BuildAsync(recipe with { MaxTokens = 501 });
        Assert.Equal(501, limited.Splits[0].TokenCount);
        var more = await BuildAsync(recipe with { MaxTokens = 1_000_000 });
        Assert.Equal(all.Splits[0], more.Splits[0] with { Shards = all.Splits[0].Shards });
        Assert.Equal(all.Splits[1].TokenCount, limited.Splits[1].TokenCount);
    }

    [Fact]
    public async Task ShardsDoNotDependOnUnitsAndThreads()
    {
        var recipe = Recipe(("a", 400, 2), ("b", 90, 5)) with { MaxTokens = 9_000, Tokenizer = new TokenizerRecipe { Options = new TokenizerOptions { VocabularySize = 300 }, Balance = 0.3 } };
        await BuildAsync(recipe, degree: 1);
        var expected = (await _store.TryReadTextAsync("datasets/test/manifest.json"))!.Value.Text;
        foreach (var (degree, unitBytes) in new[] { (1, 100), (3, 1000), (5, 20_000) })
        {
            await BuildAsync(recipe, degree, unitBytes);
            Assert.Equal(expected, (await _store.TryReadTextAsync("datasets/test/manifest.json"))!.Value.Text);
        }
    }

    [Fact]
    public async Task APartThatIsFarTooSmallIsNamed()
    {
        var exception = await Assert.ThrowsAsync<TextSourceException>(() => BuildAsync(Recipe(("a", 100, 1), ("b", 2, 1000)) with { MaxTokens = 10_000_000 }));
        Assert.StartsWith("Part 'b' of the mixture has ", exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void SharesAreWholeAndAddUp() => Check.QuickThrowOnFailure(Prop.ForAll(
        Gen.Choose(0, 1_000_000).ToArbitrary(),
        Gen.Choose(1, 1000).Select(w => w / 7.0).NonEmptyListOf().ToArbitrary(),
        (total, weights) =>
        {
            var shares = TokenBudget.Proportional(total, [.. weights]);
            return shares.Sum() == total && shares.Zip(weights).All(s => Math.Abs(s.First - (total * s.Second / weights.Sum())) <= 1);
        }));

    [Fact]
    public void BalanceMakesPartsAlikeAndLeavesTheLargestAsItIs()
    {
        Assert.Equal([1.0, 1.0], TokenizerTraining.Weights([300, 100], 1));
        Assert.Equal([1.0, 3.0], TokenizerTraining.Weights([300, 100], 0));
        Assert.Equal([2.0, 1.0, 1.0], TokenizerTraining.Weights([100, 400, 0], 0.5));
    }

    private static void AssertOrder(DocumentOrder order, List<(string Text, long Tokens)> documents)
    {
        var whole = documents.Where(d => d.Text[^1] == '.').Select(d => d.Text).ToList();
        if (order == DocumentOrder.Length)
        {
            Assert.Equal(whole.Select(d => d.Length).Order(), whole.Select(d => d.Length));
        }
        else if (order == DocumentOrder.Source)
        {
            Assert.True(documents.FindLastIndex(d => d.Text[0] == 'a') < documents.FindIndex(d => d.Text[0] == 'b'));
        }
        else
        {
            Assert.NotEqual(whole.Order(StringComparer.Ordinal), whole);
        }
    }

    private DatasetRecipe Recipe(params (string Label, int Documents, double? Weight)[] parts) => new()
    {
        Mixture = [.. parts.Select(p => new MixturePart([WritePart(p.Label, p.Documents)], p.Label, p.Weight))],
        Order = DocumentOrder.Shuffled,
        Tokenizer = new TokenizerRecipe { Options = new TokenizerOptions { Kind = "character" } },
        ValidationFraction = 0.1,
    };

    private string WritePart(string label, int documents) => _folder.Write($"{label}.jsonl", string.Concat(Enumerable.Range(0, documents).Select(i =>
        $"{{\"text\":\"{label}{i:D5} {string.Concat(Enumerable.Repeat("xy ", i * 7 % 11))}.\"}}\n")));

    private Task<DatasetProperties> BuildAsync(DatasetRecipe recipe, int degree = 2, long unitBytes = 4000) =>
        new DatasetBuilder(_store, new DatasetBuilderOptions(_folder.Path, degree) { UnitBytes = unitBytes })
            .BuildAsync(recipe, new DatasetTarget("datasets/test"), new BuildProgress(), _ => Task.CompletedTask).WaitAsync(Patience);

    private async Task<List<(string Text, long Tokens)>> DocumentsAsync(string split)
    {
        using var dataset = await TokenDataset.OpenAsync(_store, "datasets/test");
        var ids = new int[dataset.Split(split).TokenCount];
        dataset.Split(split).Read(0, ids);
        var documents = new List<(string, long)>();
        for (var start = 0; start < ids.Length;)
        {
            var end = Array.IndexOf(ids, dataset.Tokenizer.EndOfTextId, start);
            documents.Add((dataset.Tokenizer.Decode(ids.AsSpan(start, end - start)), end + 1 - start));
            start = end + 1;
        }

        return documents;
    }
}
