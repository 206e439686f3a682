using System.Text.Json.Nodes;
using LlmPipeline.Fakes;
using LlmPipeline.Storage;
using LlmPipeline.Text;
using LlmPipeline.Text.NGrams;
using TorchSharp;

namespace LlmPipeline.Models.Tests;

public sealed class NgramTokenModelTests : IDisposable
{
    private const int Vocabulary = 29;

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(NgramSmoothing.KneserNey)]
    [InlineData(NgramSmoothing.MaximumLikelihood)]
    [InlineData(NgramSmoothing.AddK)]
    [InlineData(NgramSmoothing.GoodTuring)]
    public async Task AWrittenModelLoadsBitForBitAndGeneratesTheSame(NgramSmoothing smoothing)
    {
        using var model = Create(smoothing);
        var folder = await WriteAsync(model);
        Assert.Equal(["config.json", "generation_config.json", "manifest.json", "ngrams.bin", "tokenizer.json"],
            Directory.GetFiles(folder).Select(f => Path.GetFileName(f)).Order(StringComparer.Ordinal));
        using var loaded = Assert.IsType<NgramTokenModel>(ModelDirectory.Load(folder, torch.CPU));
        Assert.Equal((model.Ngrams.Options, "a-fingerprint"), (loaded.Ngrams.Options, loaded.TrainedOn));
        Assert.Equal(Logits(model, [3, 4, 5]), Logits(loaded, [3, 4, 5]));
        Assert.Equal(
            new ModelDescription("ngram", Vocabulary, 2, model.Ngrams.Counts.NgramCount, []),
            ModelDirectory.Describe(folder) with { Files = [] });

        var options = new SamplingOptions { Temperature = 0.8, TopK = 9, TopP = 0.9, Seed = 4 };
        int[] text = [.. Generation.Generate(model, [3, 4], 50, options)];
        Assert.Equal(text, Generation.Generate(loaded, [3, 4], 50, options));
        Assert.NotEqual(text, Generation.Generate(loaded, [3, 4], 50, options with { Seed = 5 }));
    }

    [Fact]
    public void LogitsAreLogarithmsOfTheProbabilitiesHoweverTheContextCame()
    {
        using var model = Create(NgramSmoothing.KneserNey);
        int[] context = [7, 3, 11, 2];
        var expected = Enumerable.Range(0, Vocabulary).Select(id => (float)model.Ngrams.LogProbability(context, id)).ToArray();
        Assert.Equal(expected, Logits(model, context));

        using var state = model.BeginGeneration(2);
        var logits_BV = new float[2 * Vocabulary];
        state.Append([7, 3, 1, 1], logits_BV);
        state.Append([11, 2, 1, 1], logits_BV);
        Assert.Equal(4, state.Length);
        Assert.Equal(expected, logits_BV[..Vocabulary]);
        Assert.Equal(Logits(model, [1, 1, 1, 1]), logits_BV[Vocabulary..]);
    }

    [Fact]
    public void GreedyTextIsThatOfTheMostLikelyIdsAndHasNoEndOfContext()
    {
        using var model = Create(NgramSmoothing.KneserNey);
        List<int> expected = [5, 6];
        for (var i = 0; i < 40; i++)
        {
            expected.Add(model.Ngrams.MostLikely(model.Ngrams.StateAfter([.. expected])));
        }

        Assert.Equal(expected.Skip(2), Generation.GenerateGreedy(model, [[5, 6], [1, 2]], 40)[0]);
        var text = Generation.Generate(model, [5, 6], 40, new SamplingOptions { Temperature = 0 });
        Assert.Equal(expected.Skip(2).TakeWhile(id => id != model.EndOfTextId), text);
    }

    [Theory]
    [InlineData("smoothing", "\"witten-bell\"", "smoothing is 'witten-bell'")]
    [InlineData("order", "17", "from 1 to 16")]
    [InlineData("order", "2", "order is 2 there, and 3 here")]
    [InlineData("vocab_size", "28", "vocab_size is 28 there, and 29 here")]
    [InlineData("eos_token_id", "1", "eos_token_id is 1 there, and 28 here")]
    [InlineData("k", "-1", "k is -1")]
    [InlineData("ngram_count", "null", "ngram_count is missing")]
    [InlineData("model_type", "\"bert\"", "model_type is 'bert'")]
    public async Task AConfigurationThatDoesNotFitIsRefusedByKey(string key, string value, string expected)
    {
        using var model = Create(NgramSmoothing.KneserNey);
        var folder = await WriteAsync(model);
        var path = Path.Combine(folder, "config.json");
        var config = JsonNode.Parse(await File.ReadAllTextAsync(path))!;
        config[key] = JsonNode.Parse(value);
        await File.WriteAllTextAsync(path, config.ToJsonString());
        Assert.Contains(expected, Assert.Throws<InvalidDataException>(() => ModelDirectory.Load(folder, torch.CPU)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task MissingAndDamagedCountsAreNamed()
    {
        using var model = Create(NgramSmoothing.KneserNey);
        var folder = await WriteAsync(model);
        var path = Path.Combine(folder, "ngrams.bin");
        var bytes = await File.ReadAllBytesAsync(path);
        bytes[bytes.Length / 2] ^= 4;
        await File.WriteAllBytesAsync(path, bytes);
        Assert.Contains(path, Assert.Throws<InvalidDataException>(() => ModelDirectory.Load(folder, torch.CPU)).Message, StringComparison.Ordinal);
        File.Delete(path);
        Assert.Contains($"'{path}' is missing", Assert.Throws<InvalidDataException>(() => ModelDirectory.Load(folder, torch.CPU)).Message, StringComparison.Ordinal);
    }

    private static NgramTokenModel Create(NgramSmoothing smoothing)
    {
        TorchRuntime.Initialize();
        var random = new Random(2);
        int[] ids = [.. Enumerable.Range(0, 4000).Select(_ => random.Next(1 + random.Next(Vocabulary)))];
        return new NgramTokenModel(NgramModel.Train(new Ids(ids), Vocabulary, Vocabulary - 1, new NgramOptions { Order = 3, Smoothing = smoothing, K = 0.1 }), "a-fingerprint");
    }

    private async Task<string> WriteAsync(NgramTokenModel model)
    {
        var store = BlobStore.Open($"folder={_folder.Path}");
        var directory = store.CreateDirectory("models/counted/versions/1");
        await ModelDirectory.WriteAsync(directory, model, "{}");
        await directory.CommitAsync();
        return await store.GetVerifiedLocalDirectoryAsync("models/counted/versions/1");
    }

    private static float[] Logits(NgramTokenModel model, int[] ids)
    {
        using var state = model.BeginGeneration(1);
        var logits = new float[Vocabulary];
        state.Append(ids, logits);
        return logits;
    }

    private sealed class Ids(int[] ids) : TokenSplit
    {
        public override long TokenCount => ids.Length;

        public override long ByteCount => ids.Length;

        public override long DocumentCount => 1;

        public override void Read(long position, Span<int> destination) => ids.AsSpan((int)position, destination.Length).CopyTo(destination);
    }
}
