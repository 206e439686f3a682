using System.Text.Json.Nodes;
using LlmPipeline.Storage;
using TorchSharp;

namespace LlmPipeline.Models.Tests;

public sealed class ShardedWeightsTests : IDisposable
{
    private const string Index = "model.safetensors.index.json";

    private readonly string _folder = Directory.CreateTempSubdirectory("shards-").FullName;
    private readonly IBlobStore _store;

    public ShardedWeightsTests() => _store = BlobStore.Open($"folder={_folder}");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData("gpt2", 4000)]
    [InlineData("llama", 4000)]
    [InlineData("llama", 1)]
    [InlineData("llama", 1_000_000)]
    public async Task WeightsAboveTheLimitAreWrittenInShardsAndLoadBitForBit(string architecture, long limit)
    {
        using var model = TestModels.Create(architecture == "llama" ? TestModels.TinyLlama : TestModels.Tiny);
        var folder = await WriteAsync(model, limit);
        var shards = Directory.GetFiles(folder, "*.safetensors").Order(StringComparer.Ordinal).ToArray();
        if (limit > 100_000)
        {
            Assert.Equal("model.safetensors", Path.GetFileName(Assert.Single(shards)));
            return;
        }

        Assert.True(shards.Length > 3);
        Assert.Equal(Enumerable.Range(1, shards.Length).Select(n => $"model-{n:D5}-of-{shards.Length:D5}.safetensors"), shards.Select(Path.GetFileName));
        var index = JsonNode.Parse(await File.ReadAllTextAsync(Path.Combine(folder, Index)))!;
        Assert.Equal(4 * model.Parameters.ParameterCount, (long)index["metadata"]!["total_size"]!);
        foreach (var shard in shards)
        {
            using var file = SafetensorsFile.Open(shard);
            Assert.All(file.Tensors.Keys, name => Assert.Equal(Path.GetFileName(shard), (string?)index["weight_map"]![name]));
            Assert.True(file.Tensors.Count == 1 || file.Tensors.Values.Sum(t => t.End - t.Begin) <= limit);
        }

        var description = ModelDirectory.Describe(folder);
        Assert.Equal(model.Parameters.ParameterCount, description.ParameterCount);
        Assert.Equal([.. Directory.GetFiles(folder).Select(f => Path.GetFileName(f)!).Except(["manifest.json"]).Order()], description.Files.Order());
        using var loaded = ModelDirectory.LoadNetwork(folder, torch.CPU);
        Assert.Equal(model.Config, loaded.Config);
        Assert.True(model.Parameters.Values.SequenceEqual(loaded.Parameters.Values));
        using var other = TestModels.Create(model.Config, seed: 9);
        ModelDirectory.LoadWeights(folder, other);
        Assert.True(model.Parameters.Values.SequenceEqual(other.Parameters.Values));
    }

    [Theory]
    [InlineData("F16")]
    [InlineData("BF16")]
    public async Task ShardsOfOtherImplementationsLoad(string dataType)
    {
        using var model = TestModels.Create(TestModels.TinyLlama);
        var folder = await WriteAsync(model, long.MaxValue);
        File.Delete(Path.Combine(folder, "model.safetensors"));
        var tensors = ForeignWeights.Of(model);
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = ([2], [1, 0.01f]);
        var map = new JsonObject();
        foreach (var (part, n) in tensors.Chunk(7).Select((part, n) => (part, n)))
        {
            ForeignWeights.Write(folder, part.ToDictionary(), dataType, $"part{n}.safetensors");
            part.ToList().ForEach(t => map[t.Key] = $"part{n}.safetensors");
        }

        await File.WriteAllTextAsync(Path.Combine(folder, Index), new JsonObject { ["metadata"] = new JsonObject(), ["weight_map"] = map }.ToJsonString());
        using var loaded = ModelDirectory.LoadNetwork(folder, torch.CPU);
        for (var i = 0; i < model.Parameters.Length; i++)
        {
            Assert.Equal(model.Parameters.Values[i], loaded.Parameters.Values[i], dataType == "F16" ? 1e-3 : 1e-2);
        }
    }

    [Fact]
    public async Task FilesThatContradictEachOtherAreNamedWithTheTensor()
    {
        using var model = TestModels.Create(TestModels.TinyLlama);
        var folder = await WriteAsync(model, 4000);
        var shards = Directory.GetFiles(folder, "*.safetensors").Order(StringComparer.Ordinal).Select(f => Path.GetFileName(f)).ToArray();
        var index = await File.ReadAllTextAsync(Path.Combine(folder, Index));

        void Change(Action<JsonObject> change)
        {
            var json = JsonNode.Parse(index)!.AsObject();
            change(json);
            File.WriteAllText(Path.Combine(folder, Index), json.ToJsonString());
        }

        // In a shard, but the index says another.
        Change(json => json["weight_map"]!["model.norm.weight"] = shards[0]);
        AssertError($"'{Path.Combine(folder, shards[0])}' has no 'model.norm.weight'", Path.Combine(folder, Index), $"'{shards[^1]}' has it");
        Change(json => json["weight_map"]!["model.other.weight"] = shards[1]);
        AssertError($"'{Path.Combine(folder, shards[1])}' has no 'model.other.weight'", Index);
        Change(json => json["weight_map"]!.AsObject().Remove("model.norm.weight"));
        AssertError($"'{Path.Combine(folder, shards[^1])}' has 'model.norm.weight'", "does not know");
        Change(json => json["weight_map"]!["model.norm.weight"] = "../model.safetensors");
        AssertError("weight_map['model.norm.weight']", "not the name of a file");
        Change(json => json["weight_map"]!["model.norm.weight"] = 3);
        AssertError("weight_map['model.norm.weight']", "is 3");
        Change(json => json.Remove("weight_map"));
        AssertError(Path.Combine(folder, Index), "weight_map is missing");
        File.WriteAllText(Path.Combine(folder, Index), $"{{\"weight_map\":{{\"model.norm.weight\":\"{shards[0]}\",\"model.norm.weight\":\"{shards[1]}\"}}}}");
        AssertError("weight_map['model.norm.weight']", "there twice");

        // The same tensor in two shards.
        File.WriteAllText(Path.Combine(folder, Index), index);
        var first = await File.ReadAllBytesAsync(Path.Combine(folder, shards[0]));
        var tensors = ForeignWeights.Of(model);
        ForeignWeights.Write(folder, new Dictionary<string, (long[], float[])> { ["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"], ["model.norm.weight"] = tensors["model.norm.weight"] }, file: shards[0]);
        AssertError("'model.norm.weight' is in", shards[0], shards[^1]);
        await File.WriteAllBytesAsync(Path.Combine(folder, shards[0]), first[..^1]);
        AssertError(Path.Combine(folder, shards[0]), "cut off");
        File.Delete(Path.Combine(folder, shards[0]));
        AssertError($"'{Path.Combine(folder, shards[0])}' is missing", "'model.embed_tokens.weight'");
        File.Delete(Path.Combine(folder, Index));
        AssertError($"'{Path.Combine(folder, "model.safetensors")}' is missing, and so is {Index}");

        void AssertError(params string[] parts)
        {
            var message = Assert.Throws<InvalidDataException>(() => ModelDirectory.LoadNetwork(folder, torch.CPU)).Message;
            Assert.All(parts, part => Assert.Contains(part, message, StringComparison.Ordinal));
        }
    }

    private async Task<string> WriteAsync(LanguageModel model, long maxShardBytes)
    {
        var token = TestContext.Current.CancellationToken;
        var writer = _store.CreateDirectory("models/m/versions/1");
        await ModelDirectory.WriteAsync(writer, model, "{}", maxShardBytes: maxShardBytes, cancellationToken: token);
        await writer.CommitAsync(cancellationToken: token);
        return await _store.GetVerifiedLocalDirectoryAsync("models/m/versions/1", token);
    }
}
