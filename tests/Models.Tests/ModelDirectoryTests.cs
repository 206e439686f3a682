using System.Text.Json.Nodes;
using LlmPipeline.Storage;
using TorchSharp;

namespace LlmPipeline.Models.Tests;

public sealed class ModelDirectoryTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("models-").FullName;
    private readonly IBlobStore _store;

    public ModelDirectoryTests() => _store = BlobStore.Open($"folder={_folder}");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task AWrittenModelLoadsBitForBit(bool bias)
    {
        using var model = TestModels.Create(TestModels.Tiny with { Bias = bias, Dropout = 0.25 });
        var folder = await WriteAsync(model);
        Assert.Equal(["config.json", "generation_config.json", "manifest.json", "model.safetensors", "tokenizer.json"],
            Directory.GetFiles(folder).Select(f => Path.GetFileName(f)).Order(StringComparer.Ordinal));
        using var loaded = ModelDirectory.LoadNetwork(folder, torch.CPU);
        Assert.Equal(model.Config, loaded.Config);
        Assert.True(model.Parameters.Values.SequenceEqual(loaded.Parameters.Values));
        Assert.Equal("{\"a\":1}", await File.ReadAllTextAsync(Path.Combine(folder, "tokenizer.json")));

        using var other = TestModels.Create(model.Config, seed: 9);
        ModelDirectory.LoadWeights(folder, other);
        Assert.True(model.Parameters.Values.SequenceEqual(other.Parameters.Values));
    }

    [Fact]
    public async Task TheFilesAreThoseOfHuggingFace()
    {
        using var model = TestModels.Create();
        var folder = await WriteAsync(model);
        var config = JsonNode.Parse(await File.ReadAllTextAsync(Path.Combine(folder, "config.json")))!;
        Assert.Equal("gpt2", (string?)config["model_type"]);
        Assert.Equal("GPT2LMHeadModel", (string?)config["architectures"]![0]);
        Assert.Equal((29, 12, 16, 2, 2, 28), ((int)config["vocab_size"]!, (int)config["n_positions"]!, (int)config["n_embd"]!, (int)config["n_layer"]!, (int)config["n_head"]!, (int)config["eos_token_id"]!));
        Assert.Equal("gelu_new", (string?)config["activation_function"]);
        Assert.Equal(28, (int)JsonNode.Parse(await File.ReadAllTextAsync(Path.Combine(folder, "generation_config.json")))!["eos_token_id"]!);

        using var file = SafetensorsFile.Open(Path.Combine(folder, "model.safetensors"));
        Assert.Equal("pt", file.Metadata["format"]);
        Assert.Equal([16, 48], file.Tensors["transformer.h.1.attn.c_attn.weight"].Shape);
        Assert.Equal([48], file.Tensors["transformer.h.1.attn.c_attn.bias"].Shape);
        Assert.Equal([64, 16], file.Tensors["transformer.h.0.mlp.c_proj.weight"].Shape);
        Assert.Equal(2 + (2 * 12) + 2, file.Tensors.Count);
        Assert.DoesNotContain("lm_head.weight", file.Tensors.Keys);
    }

    [Fact]
    public async Task AModelWithoutBiasesIsWrittenForReadersThatExpectThem()
    {
        using var model = TestModels.Create(TestModels.Tiny with { Bias = false });
        var folder = await WriteAsync(model);
        EditConfig(folder, config => config.Remove("bias"));
        using var loaded = ModelDirectory.LoadNetwork(folder, torch.CPU);
        Assert.True(loaded.Config.Bias);
        var ids = TestModels.RandomIds(12, 1);
        Assert.All(TestModels.ForwardLogits(model, ids, 1).Zip(TestModels.ForwardLogits(loaded, ids, 1)), pair => Assert.Equal(pair.First, pair.Second, 1e-6));
    }

    [Theory]
    [InlineData("F32", true, false)]
    [InlineData("F32", false, true)]
    [InlineData("F16", true, true)]
    [InlineData("BF16", false, false)]
    public async Task FilesOfOtherImplementationsLoad(string dataType, bool prefix, bool head)
    {
        using var model = TestModels.Create();
        var folder = await WriteAsync(model);
        var tensors = ForeignWeights.Of(model);
        if (head)
        {
            tensors["lm_head.weight"] = tensors["transformer.wte.weight"];
        }

        tensors["transformer.h.0.attn.bias"] = ([1, 1, 12, 12], new float[144]);
        tensors["transformer.h.1.attn.masked_bias"] = ([], [-10000]);
        if (!prefix)
        {
            tensors = tensors.ToDictionary(t => t.Key.Replace("transformer.", "", StringComparison.Ordinal), t => t.Value);
        }

        ForeignWeights.Write(folder, tensors, dataType);
        using var loaded = ModelDirectory.LoadNetwork(folder, torch.CPU);
        var tolerance = dataType switch { "F16" => 1e-3, "BF16" => 1e-2, _ => 0 };
        for (var i = 0; i < model.Parameters.Length; i++)
        {
            Assert.Equal(model.Parameters.Values[i], loaded.Parameters.Values[i], tolerance);
        }
    }

    [Fact]
    public async Task WrongTensorsAreNamed()
    {
        using var model = TestModels.Create();
        var folder = await WriteAsync(model);

        string ErrorAfter(Action<Dictionary<string, (long[] Shape, float[] Values)>> change, string dataType = "F32")
        {
            var tensors = ForeignWeights.Of(model);
            change(tensors);
            ForeignWeights.Write(folder, tensors, dataType);
            return Assert.Throws<InvalidDataException>(() => ModelDirectory.LoadNetwork(folder, torch.CPU)).Message;
        }

        Assert.Contains("'transformer.h.1.ln_1.bias' is missing", ErrorAfter(t => t.Remove("transformer.h.1.ln_1.bias")), StringComparison.Ordinal);
        Assert.Contains("'extra.weight' is not a tensor of this network", ErrorAfter(t => t["extra.weight"] = ([1], [1])), StringComparison.Ordinal);
        Assert.Contains("has shape (48, 16) instead of (16, 48)", ErrorAfter(t => t["transformer.h.0.attn.c_attn.weight"] = ([48, 16], new float[768])), StringComparison.Ordinal);
        Assert.Contains("differs from 'transformer.wte.weight'", ErrorAfter(t => t["lm_head.weight"] = ([29, 16], new float[464])), StringComparison.Ordinal);
        Assert.Contains("differs", ErrorAfter(t => t["lm_head.weight"] = ([16, 29], new float[464])), StringComparison.Ordinal);
        Assert.Contains("type I32", ErrorAfter(_ => { }, "I32"), StringComparison.Ordinal);
        Assert.Contains("and 23 more", ErrorAfter(t => t.Clear()), StringComparison.Ordinal);

        // Not written as a network without biases, but said to be one.
        ForeignWeights.Write(folder, ForeignWeights.Of(model), "F32");
        EditConfig(folder, config => config["bias"] = false);
        Assert.Contains("is not 0, though config.json says \"bias\": false", Assert.Throws<InvalidDataException>(() => ModelDirectory.LoadNetwork(folder, torch.CPU)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(true, 0, 0.25)]
    [InlineData(false, 6, 0)]
    public async Task AWrittenLlamaLoadsBitForBit(bool tied, int headSize, double dropout)
    {
        using var model = TestModels.Create(TestModels.TinyLlama with { Tied = tied, HeadSize = headSize, Dropout = dropout, RopeTheta = 5e5, NormEpsilon = 1e-6 });
        var folder = await WriteAsync(model);
        using var loaded = ModelDirectory.LoadNetwork(folder, torch.CPU);
        Assert.Equal(model.Config, loaded.Config);
        Assert.True(model.Parameters.Values.SequenceEqual(loaded.Parameters.Values));
        using var file = SafetensorsFile.Open(Path.Combine(folder, "model.safetensors"));
        Assert.Equal(!tied, file.Tensors.ContainsKey("lm_head.weight"));
        Assert.Equal([headSize == 0 ? 8 : 12, 16], file.Tensors["model.layers.1.self_attn.k_proj.weight"].Shape);
        Assert.Equal([24, 16], file.Tensors["model.layers.1.mlp.gate_proj.weight"].Shape);

        // A tied head that is stored as well does not count twice.
        if (tied)
        {
            var tensors = ForeignWeights.Of(model);
            tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"];
            ForeignWeights.Write(folder, tensors);
            Assert.Equal(model.Parameters.ParameterCount, ModelDirectory.Describe(folder).ParameterCount);
            ModelDirectory.LoadNetwork(folder, torch.CPU).Dispose();
        }
    }

    [Theory]
    [InlineData("rnn", null, true, true)]
    [InlineData("lstm", 9, true, false)]
    [InlineData("gru", 9, false, true)]
    [InlineData("feed-forward", 9, true, false)]
    [InlineData("feed-forward", null, false, true)]
    public async Task AWrittenRecurrentOrFeedForwardNetworkLoadsBitForBit(string architecture, int? embedding, bool tied, bool bias)
    {
        var isRecurrent = architecture != "feed-forward";
        using var model = TestModels.Create(new ModelConfig
        {
            Architecture = architecture,
            VocabularySize = 29,
            Layers = 2,
            Width = 16,
            EmbeddingWidth = embedding,
            Context = 12,
            Dropout = 0.25,
            Tied = tied,
            Bias = bias,
            EndOfTextId = 28,
            VariationalDropout = isRecurrent,
            RecurrentDropout = isRecurrent ? 0.5 : 0,
            Window = isRecurrent ? 0 : 3,
            DirectConnections = !isRecurrent,
        });
        var folder = await WriteAsync(model);
        using var loaded = ModelDirectory.LoadNetwork(folder, torch.CPU);
        Assert.Equal(model.Config, loaded.Config);
        Assert.True(model.Parameters.Values.SequenceEqual(loaded.Parameters.Values));
        var description = ModelDirectory.Describe(folder);
        Assert.Equal((architecture, model.ParameterCount, 12), (description.Architecture, description.ParameterCount, description.Context));
        if (isRecurrent)
        {
            using var file = SafetensorsFile.Open(Path.Combine(folder, "model.safetensors"));
            Assert.Equal([16 * (architecture == "rnn" ? 1 : architecture == "gru" ? 3 : 4), 16], file.Tensors[$"{architecture}.weight_hh_l1"].Shape);
        }
    }

    [Theory]
    [InlineData("hidden_act", "\"gelu\"", "'gelu'; silu")]
    [InlineData("attention_bias", "true", "does not compute")]
    [InlineData("mlp_bias", "true", "does not compute")]
    [InlineData("rope_scaling", "{\"type\":\"linear\",\"factor\":2}", "'linear'")]
    [InlineData("rope_scaling", "{\"rope_type\":\"llama3\",\"factor\":8}", "'llama3'")]
    [InlineData("rope_parameters", "{\"rope_type\":\"yarn\"}", "'yarn'")]
    [InlineData("rope_scaling", "4", "not an object")]
    [InlineData("rope_theta", "0", "RopeTheta is 0")]
    [InlineData("num_key_value_heads", "3", "KvHeads is 3")]
    [InlineData("head_dim", "5", "even number")]
    [InlineData("hidden_size", "null", "hidden_size is missing")]
    [InlineData("tie_word_embeddings", "true", "'lm_head.weight' differs from 'model.embed_tokens.weight'")]
    public async Task ALlamaThatCannotBeComputedIsRefusedWithItsKey(string key, string json, string message)
    {
        using var model = TestModels.Create(TestModels.TinyLlama);
        var folder = await WriteAsync(model);
        EditConfig(folder, config => config[key] = JsonNode.Parse(json));
        var error = Assert.Throws<InvalidDataException>(() => ModelDirectory.LoadNetwork(folder, torch.CPU)).Message;
        Assert.Contains(message, error, StringComparison.Ordinal);
        Assert.Contains(folder, error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task RotaryPositionsAreReadWhereEitherVersionOfTransformersPutsThem()
    {
        using var model = TestModels.Create(TestModels.TinyLlama);
        var folder = await WriteAsync(model);
        EditConfig(folder, config =>
        {
            config.Remove("rope_theta");
            config["rope_parameters"] = new JsonObject { ["rope_type"] = "default", ["rope_theta"] = 500_000.0 };
        });
        Assert.Equal(500_000, ModelDirectory.ReadConfig(folder).RopeTheta);
        EditConfig(folder, config => config.Remove("rope_parameters"));
        Assert.Equal(10_000, ModelDirectory.ReadConfig(folder).RopeTheta);
        EditConfig(folder, config => config.Remove("num_key_value_heads"));
        Assert.Equal(4, ModelDirectory.ReadConfig(folder).KvHeads);
    }

    [Theory]
    [InlineData("model_type", "\"bert\"", "'bert'; 'gpt2'")]
    [InlineData("activation_function", "\"relu\"", "'relu'")]
    [InlineData("n_embd", "null", "n_embd is missing")]
    [InlineData("n_embd", "\"16\"", "not a whole number")]
    [InlineData("n_embd", "-16", "does not describe a network: Width")]
    [InlineData("n_head", "3", "divide Width")]
    [InlineData("n_inner", "17", "n_inner is 17")]
    [InlineData("eos_token_id", "29", "EndOfTextId is 29")]
    [InlineData("vocab_size", "1e300", "not a whole number")]
    [InlineData("scale_attn_by_inverse_layer_idx", "true", "does not compute")]
    [InlineData("tie_word_embeddings", "false", "does not compute")]
    [InlineData("layer_norm_epsilon", "true", "not a number")]
    public async Task WrongConfigsAreNamedByFileAndKey(string key, string json, string message)
    {
        using var model = TestModels.Create();
        var folder = await WriteAsync(model);
        EditConfig(folder, config => config[key] = JsonNode.Parse(json));
        var error = Assert.Throws<InvalidDataException>(() => ModelDirectory.LoadNetwork(folder, torch.CPU)).Message;
        Assert.Contains(message, error, StringComparison.Ordinal);
        Assert.Contains(Path.Combine(folder, "config.json"), error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task HugeSizesAreRefusedBeforeMemoryIsTaken()
    {
        using var model = TestModels.Create();
        var folder = await WriteAsync(model);
        EditConfig(folder, config => config["n_embd"] = 4096);
        Assert.Contains("shape", Assert.Throws<InvalidDataException>(() => ModelDirectory.LoadNetwork(folder, torch.CPU)).Message, StringComparison.Ordinal);
        EditConfig(folder, config => config["vocab_size"] = 1 << 24);
        Assert.Contains("more than", Assert.Throws<InvalidDataException>(() => ModelDirectory.LoadNetwork(folder, torch.CPU)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("config.json")]
    [InlineData("model.safetensors")]
    public async Task AMissingOrBrokenFileIsNamed(string file)
    {
        using var model = TestModels.Create();
        var folder = await WriteAsync(model);
        var path = Path.Combine(folder, file);
        await File.WriteAllBytesAsync(path, (await File.ReadAllBytesAsync(path))[..^3]);
        Assert.Contains(path, Assert.Throws<InvalidDataException>(() => ModelDirectory.LoadNetwork(folder, torch.CPU)).Message, StringComparison.Ordinal);
        File.Delete(path);
        Assert.Contains($"'{path}' is missing", Assert.Throws<InvalidDataException>(() => ModelDirectory.LoadNetwork(folder, torch.CPU)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task KeysThatOtherWritersLeaveOutHaveTheirDefaults()
    {
        using var model = TestModels.Create();
        var folder = await WriteAsync(model);
        await File.WriteAllTextAsync(Path.Combine(folder, "config.json"),
            """{"model_type":"gpt2","vocab_size":29,"n_positions":12,"n_embd":16,"n_layer":2,"n_head":2,"eos_token_id":[28,27],"n_inner":null,"something_new":{}}""");
        Assert.Equal(model.Config, ModelDirectory.ReadConfig(folder));
    }

    private async Task<string> WriteAsync(LanguageModel model)
    {
        var token = TestContext.Current.CancellationToken;
        var writer = _store.CreateDirectory("models/m/versions/1");
        await ModelDirectory.WriteAsync(writer, model, "{\"a\":1}", cancellationToken: token);
        await writer.CommitAsync(cancellationToken: token);
        return await _store.GetVerifiedLocalDirectoryAsync("models/m/versions/1", token);
    }

    private static void EditConfig(string folder, Action<JsonObject> change)
    {
        var path = Path.Combine(folder, "config.json");
        var config = JsonNode.Parse(File.ReadAllText(path))!.AsObject();
        change(config);
        File.WriteAllText(path, config.ToJsonString());
    }
}
