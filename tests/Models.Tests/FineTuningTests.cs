using System.Text.Json.Nodes;
using LlmPipeline.Storage;
using TorchSharp;

namespace LlmPipeline.Models.Tests;

public sealed class FineTuningTests : IDisposable
{
    private static readonly TuningOptions LoraTuning = new() { Lora = new LoraOptions { Rank = 3, Alpha = 6, Targets = ["c_attn", "c_fc"], Dropout = 0.1 } };

    private readonly string _folder = Directory.CreateTempSubdirectory("tuning-").FullName;
    private readonly IBlobStore _store;

    public FineTuningTests() => _store = BlobStore.Open($"folder={_folder}");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task FrozenParametersTakeNoGradientAndTheOthersTheSameAsBefore()
    {
        using var whole = TestModels.Create();
        var folder = await WriteAsync(whole, "base");
        using var model = BaseModel.Load(folder, whole.Config with { Tuning = new TuningOptions { FrozenBlocks = 1, FrozenEmbedding = true } }, 1, torch.CPU);
        Assert.All(model.Parameters.FrozenViews, v => Assert.True(v.Name.Contains(".h.0.", StringComparison.Ordinal) || v.Name.Contains(".wte.", StringComparison.Ordinal) || v.Name.Contains(".wpe.", StringComparison.Ordinal)));
        Assert.Equal(whole.ParameterCount, model.ParameterCount);
        Assert.True(model.Parameters.Length < whole.Parameters.Length);
        Assert.Equal(model.Parameters.Length, model.Parameters.Gradients.Length);

        var (inputs, targets) = (TestModels.RandomIds(24, 1), TestModels.RandomIds(24, 2));
        Assert.Equal(TestModels.ForwardLogits(whole, inputs, 2), TestModels.ForwardLogits(model, inputs, 2));
        var frozen = model.Parameters.FrozenValues.ToArray();
        var expected = TestModels.GradientsOf(whole, inputs, targets, 2);
        var actual = TestModels.GradientsOf(model, inputs, targets, 2);
        foreach (var view in model.Parameters.Views)
        {
            var other = whole.Parameters.Views.Single(v => v.Name == view.Name);
            Assert.Equal(expected[other.Offset..(other.Offset + other.Length)], actual[view.Offset..(view.Offset + view.Length)]);
        }

        Assert.Equal(frozen, model.Parameters.FrozenValues.ToArray());
        var error = Assert.Throws<ArgumentException>(() => LanguageModel.Create(whole.Config with { Bias = true, Tuning = new TuningOptions { FrozenBlocks = 3 } }, 1, torch.CPU));
        Assert.Contains("0..2", error.Message);
    }

    [Fact]
    public async Task UpdatesBeginAtNothingAndTheirGradientIsThatOfTheFormula()
    {
        using var whole = TestModels.Create();
        var folder = await WriteAsync(whole, "base");
        using var model = BaseModel.Load(folder, whole.Config with { Tuning = LoraTuning with { Lora = LoraTuning.Lora! with { Dropout = 0 } } }, 1, torch.CPU);
        Assert.Equal(["transformer.h.0.attn.c_attn.lora_A.weight", "transformer.h.0.attn.c_attn.lora_B.weight", "transformer.h.0.mlp.c_fc.lora_A.weight", "transformer.h.0.mlp.c_fc.lora_B.weight"],
            model.Parameters.Views.Take(4).Select(v => v.Name));
        Assert.Equal(8, model.Parameters.Views.Count);
        var (inputs, targets) = (TestModels.RandomIds(24, 1), TestModels.RandomIds(24, 2));
        Assert.Equal(TestModels.ForwardLogits(whole, inputs, 2), TestModels.ForwardLogits(model, inputs, 2));

        Disturb(model, 5);
        var gradients = TestModels.GradientsOf(model, inputs, targets, 2);
        var random = new Random(1);
        foreach (var view in model.Parameters.Views)
        {
            var at = view.Offset + random.Next(view.Length);
            var value = model.Parameters.Values[at];
            double Loss(float step)
            {
                model.Parameters.Values[at] = value + step;
                var loss = model.Evaluate(inputs, targets, 2).LossSum / inputs.Length;
                model.Parameters.Values[at] = value;
                return loss;
            }

            Assert.Equal((Loss(1e-2f) - Loss(-1e-2f)) / 2e-2, gradients[at], 2e-3);
        }
    }

    [Fact]
    public async Task AnAdapterLoadsAgainAndMergedGivesTheSameLogits()
    {
        using var whole = TestModels.Create();
        using var model = BaseModel.Load(await WriteAsync(whole, "base"), whole.Config with { Tuning = LoraTuning }, 1, torch.CPU);
        Disturb(model, 5);
        var ids = TestModels.RandomIds(24, 3);
        var expected = TestModels.ForwardLogits(model, ids, 2);
        Assert.NotEqual(TestModels.ForwardLogits(whole, ids, 2), expected);

        var folder = await WriteAsync(model, "adapted");
        Assert.Contains("adapter_model.safetensors", ModelDirectory.Describe(folder).Files);
        var config = JsonNode.Parse(await File.ReadAllTextAsync(Path.Combine(folder, "adapter_config.json")))!;
        Assert.Equal(("LORA", 3, 6.0, true), ((string)config["peft_type"]!, (int)config["r"]!, (double)config["lora_alpha"]!, (bool)config["fan_in_fan_out"]!));
        using (var file = SafetensorsFile.Open(Path.Combine(folder, "adapter_model.safetensors")))
        {
            Assert.Equal([3, 16], file.Tensors["base_model.model.transformer.h.0.attn.c_attn.lora_A.weight"].Shape);
            Assert.Equal([48, 3], file.Tensors["base_model.model.transformer.h.0.attn.c_attn.lora_B.weight"].Shape);
        }

        using var merged = ModelDirectory.LoadNetwork(folder, torch.CPU);
        Assert.Null(merged.Config.Tuning);
        Assert.All(TestModels.ForwardLogits(merged, ids, 2).Zip(expected), pair => Assert.Equal(pair.First, pair.Second, 1e-5));

        // As a resumed run does.
        using var again = LanguageModel.Create(model.Config, 9, torch.CPU);
        ModelDirectory.LoadWeights(folder, again);
        Assert.True(again.Parameters.Values.SequenceEqual(model.Parameters.Values));
        Assert.True(again.Parameters.FrozenValues.SequenceEqual(model.Parameters.FrozenValues));

        var weights = Path.Combine(folder, "adapter_config.json");
        await File.WriteAllTextAsync(weights, (await File.ReadAllTextAsync(weights)).Replace("\"use_dora\": false", "\"use_dora\": true", StringComparison.Ordinal));
        Assert.Contains("use_dora", Assert.Throws<InvalidDataException>(() => ModelDirectory.LoadNetwork(folder, torch.CPU)).Message);
    }

    [Fact]
    public async Task FurtherIdsLeaveTheLogitsOfTheOldOnesAlone()
    {
        using var whole = TestModels.Create();
        using var model = BaseModel.Load(await WriteAsync(whole, "base"), whole.Config with { VocabularySize = 32, Tuning = LoraTuning with { TrainedEmbedding = true } }, 1, torch.CPU);
        Assert.Contains(model.Parameters.Views, v => v.Name == "transformer.wte.weight");
        var ids = TestModels.RandomIds(24, 3);
        var (old, extended) = (TestModels.ForwardLogits(whole, ids, 2), TestModels.ForwardLogits(model, ids, 2));
        for (var n = 0; n < ids.Length; n++)
        {
            for (var v = 0; v < 29; v++)
            {
                Assert.Equal(old[(n * 29) + v], extended[(n * 32) + v], 1e-5);
            }
        }

        var rows = model.Parameters.ValuesOf("transformer.wte.weight");
        var before = whole.Parameters.ValuesOf("transformer.wte.weight");
        for (var c = 0; c < 16; c++)
        {
            var column = Enumerable.Range(0, 29).Select(i => (double)whole.Parameters.ValuesOf("transformer.wte.weight")[(i * 16) + c]).ToArray();
            Assert.InRange(rows[(30 * 16) + c], column.Average() - (0.6 * Deviation(column)), column.Average() + (0.6 * Deviation(column)));
        }

        Assert.True(before.SequenceEqual(rows[..before.Length]));
        Assert.False(rows.Slice(29 * 16, 16).SequenceEqual(rows.Slice(30 * 16, 16)));
        Assert.Equal(96, TestModels.ForwardLogits(model, [29, 30, 31], 1).Length);
        Assert.Throws<ArgumentException>(() => BaseModel.Load(Path.Combine(_folder, "base"), whole.Config with { VocabularySize = 28, EndOfTextId = 0 }, 1, torch.CPU));
        Assert.Throws<ArgumentException>(() => BaseModel.Load(Path.Combine(_folder, "base"), whole.Config with { Layers = 3 }, 1, torch.CPU));
    }

    [Fact]
    public async Task AClassifierIsWrittenAsTransformersHasItAndLoads()
    {
        using var whole = TestModels.Create();
        using var model = BaseModel.Load(await WriteAsync(whole, "base"), whole.Config with { Labels = ["bad", "good", "so-so"] }, 1, torch.CPU);
        var folder = await WriteAsync(model, "classifier");
        var config = JsonNode.Parse(await File.ReadAllTextAsync(Path.Combine(folder, "config.json")))!;
        Assert.Equal("GPT2ForSequenceClassification", (string)config["architectures"]![0]!);
        Assert.Equal("good", (string)config["id2label"]!["1"]!);
        Assert.Equal(2, (int)config["label2id"]!["so-so"]!);
        using (var file = SafetensorsFile.Open(Path.Combine(folder, "model.safetensors")))
        {
            Assert.Equal([3, 16], file.Tensors["score.weight"].Shape);
        }

        using var loaded = ModelDirectory.LoadNetwork(folder, torch.CPU);
        Assert.Equal(["bad", "good", "so-so"], loaded.Config.Labels!);
        Assert.True(model.Parameters.Values.SequenceEqual(loaded.Parameters.Values));
        Assert.Contains("generates no text", Assert.Throws<InvalidOperationException>(() => loaded.BeginGeneration(1)).Message);

        // What stands behind the last id of a causal network changes nothing.
        var ids = TestModels.RandomIds(12, 4);
        var logits = TestModels.ForwardLogits(loaded, ids, 1);
        var classes = new double[3];
        loaded.Classify(ids.AsSpan(0, 7), classes);
        var row = logits[(6 * 3)..(7 * 3)];
        var log = Math.Log(row.Sum(v => Math.Exp(v)));
        Assert.All(classes.Zip(row), pair => Assert.Equal(pair.Second - log, pair.First, 1e-5));

        // The loss is that of the one place with a class.
        int[] targets = [.. Enumerable.Repeat(LanguageModel.IgnoredTarget, 12)];
        targets[6] = 2;
        Assert.Equal(-classes[2], loaded.Evaluate(ids, targets, 1).LossSum, 1e-5);
        var gradients = TestModels.GradientsOf(loaded, ids, targets, 1, 1);
        Assert.Contains(gradients, g => g != 0);
        targets[6] = 3;
        Assert.Contains("Class 3", Assert.Throws<ArgumentException>(() => loaded.Evaluate(ids, targets, 1)).Message);

        // A classifier is a base too; other labels mean a fresh head.
        using var same = BaseModel.Load(folder, loaded.Config, 5, torch.CPU);
        Assert.True(same.Parameters.ValuesOf("score.weight").SequenceEqual(loaded.Parameters.ValuesOf("score.weight")));
        using var other = BaseModel.Load(folder, loaded.Config with { Labels = ["yes", "no", "maybe"] }, 5, torch.CPU);
        Assert.False(other.Parameters.ValuesOf("score.weight").SequenceEqual(loaded.Parameters.ValuesOf("score.weight")));
    }

    [Fact]
    public async Task DropoutOfUpdatesHasASeedOfItsOwn()
    {
        using var whole = TestModels.Create();
        using var model = BaseModel.Load(await WriteAsync(whole, "base"), whole.Config with { Tuning = LoraTuning }, 1, torch.CPU);
        Disturb(model, 5);
        var (inputs, targets) = (TestModels.RandomIds(24, 1), TestModels.RandomIds(24, 2));
        var first = TestModels.GradientsOf(model, inputs, targets, 2, dropoutSeed: 1);
        Assert.NotEqual(first, TestModels.GradientsOf(model, inputs, targets, 2, dropoutSeed: 2));
        Assert.Equal(first, TestModels.GradientsOf(model, inputs, targets, 2, dropoutSeed: 1));
    }

    private static void Disturb(LanguageModel model, int seed)
    {
        var random = new Random(seed);
        foreach (ref var value in model.Parameters.Values)
        {
            value += 0.1f * (random.NextSingle() - 0.5f);
        }

        // Padding stays 0.
        foreach (var (view, next) in model.Parameters.Views.Zip(model.Parameters.Views.Skip(1).Select(v => v.Offset).Append(model.Parameters.Length)))
        {
            model.Parameters.Values[(view.Offset + view.Length)..next].Clear();
        }
    }

    private static double Deviation(double[] values) => Math.Sqrt(values.Average(v => (v - values.Average()) * (v - values.Average())));

    private async Task<string> WriteAsync(LanguageModel model, string name)
    {
        var directory = _store.CreateDirectory(name);
        await ModelDirectory.WriteAsync(directory, model, "{}");
        await directory.CommitAsync();
        return Path.Combine(_folder, name);
    }
}
