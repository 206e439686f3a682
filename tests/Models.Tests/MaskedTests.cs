using System.Text.Json.Nodes;
using LlmPipeline.Storage;
using LlmPipeline.Text;
using TorchSharp;

namespace LlmPipeline.Models.Tests;

public sealed class MaskedTests
{
    private static readonly Masking Bert = new(VocabularySize: 1000, MaskTokenId: 999);

    public static TheoryData<string> Architectures => ["gpt2", "llama"];

    [Fact]
    public void PlacesAreChosenAndShownAsBertDoes()
    {
        const int Sequences = 400, Length = 128;
        var ids = TestModels.RandomIds(Length, 1, 999);
        var (inputs, targets) = (new int[Length], new int[Length]);
        var (masked, kept, other) = (0, 0, 0);
        var chosen = new int[Length];
        for (var sequence = 0; sequence < Sequences; sequence++)
        {
            Bert.Apply(ids, Seeds.Derive(3, "mask", sequence), inputs, targets);
            for (var t = 0; t < Length; t++)
            {
                if (targets[t] == LanguageModel.IgnoredTarget)
                {
                    Assert.Equal(ids[t], inputs[t]);
                    continue;
                }

                Assert.Equal(ids[t], targets[t]);
                chosen[t]++;
                _ = inputs[t] == 999 ? masked++ : inputs[t] == ids[t] ? kept++ : other++;
            }

            Assert.Equal(19, targets.Count(t => t >= 0)); // 15 % of 128
        }

        var total = (double)masked + kept + other;
        Assert.InRange(masked / total, 0.78, 0.82);
        Assert.InRange(kept / total, 0.085, 0.115);
        Assert.InRange(other / total, 0.085, 0.115);
        Assert.All(chosen, count => Assert.InRange(count, 25, 100)); // 59 expected
    }

    [Theory]
    [InlineData("bpe", "<|mask|>")]
    [InlineData("character", "<|mask|>")]
    [InlineData("word", "[MASK]")]
    public void TheMaskTokenIsASpecialTokenOfTheTokenizer(string kind, string name)
    {
        var options = new TokenizerOptions { Kind = kind, VocabularySize = 300, SpecialTokens = [name] };
        var words = WordCounts.Count([System.Text.Encoding.UTF8.GetBytes("one two three two")], TokenizerTrainer.SplitterOf(options), degree: 1);
        var tokenizer = TokenizerFile.Parse(TokenizerTrainer.Train(words, options).ToJson());
        var id = SpecialTokens.MaskIn(tokenizer.SpecialIds);
        Assert.Equal(tokenizer.SpecialIds[name], id);
        Assert.DoesNotContain(id!.Value, tokenizer.Encode($"two {name}"));
        Assert.Null(SpecialTokens.MaskIn(TokenizerTrainer.Train(words, options with { SpecialTokens = [] }).SpecialIds));
    }

    [Theory]
    [InlineData(1, 1)]
    [InlineData(3, 1)]
    [InlineData(10, 2)]
    [InlineData(100, 15)]
    public void ThePlacesAreAFixedShareAndAtLeastOne(int length, int count)
    {
        Assert.Equal(count, Masking.CountOf(length));
        var (inputs, targets) = (new int[length], new int[length]);
        Bert.Apply(new int[length], 7, inputs, targets);
        Assert.Equal(count, targets.Count(t => t == 0));
    }

    [Fact]
    public void TheSameSeedMasksTheSamePlaces()
    {
        var ids = TestModels.RandomIds(64, 1, 999);
        Assert.Equal(Apply(5), Apply(5));
        Assert.NotEqual(Apply(5), Apply(6));
        Assert.NotEqual(Masking.MeasuringSeed(0), Masking.MeasuringSeed(1));

        int[] Apply(ulong seed)
        {
            var (inputs, targets) = (new int[64], new int[64]);
            Bert.Apply(ids, seed, inputs, targets);
            return [.. inputs, .. targets];
        }
    }

    [Theory]
    [MemberData(nameof(Architectures))]
    public void AMaskedNetworkLooksAtBothSides(string architecture)
    {
        using var model = TestModels.Create(Config(architecture));
        var ids = TestModels.RandomIds(12, 3);
        var logits = TestModels.ForwardLogits(model, ids, 1);
        var expected = Reference(model).Logits(ids);
        for (var t = 0; t < 12; t++)
        {
            for (var v = 0; v < 29; v++)
            {
                Assert.Equal(expected[t][v], logits[(t * 29) + v], 1e-5 * Math.Max(1, Math.Abs(expected[t][v])));
            }
        }

        ids[11] = (ids[11] + 1) % 29;
        Assert.NotEqual(logits[..29], TestModels.ForwardLogits(model, ids, 1)[..29]);
    }

    [Theory]
    [MemberData(nameof(Architectures))]
    public void GradientsEqualFiniteDifferences(string architecture)
    {
        using var model = TestModels.Create(Config(architecture));
        var ids = TestModels.RandomIds(10, 6);
        var (inputs, targets) = (new int[10], new int[10]);
        Masking.Of(model.Config)!.Apply(ids, 1, inputs, targets);
        var gradients = TestModels.GradientsOf(model, inputs, targets, 1, 0.5f);
        var tensors = TestModels.TensorsOf(model);
        var reference = Reference(model, tensors);
        var random = new Random(8);
        foreach (var view in model.Parameters.Views)
        {
            var values = tensors[view.Name];
            for (var n = 0; n < 3; n++)
            {
                var i = view.Name is "transformer.wte.weight" or "model.embed_tokens.weight" ? (inputs[n] * 16) + random.Next(16)
                    : view.Name == "transformer.wpe.weight" ? random.Next(160) : random.Next(view.Length);
                const double Step = 1e-5;
                var value = values[i];
                values[i] = value + Step;
                var above = reference.LossSum(inputs, targets);
                values[i] = value - Step;
                var below = reference.LossSum(inputs, targets);
                values[i] = value;
                var expected = (above - below) / (2 * Step) / 2;
                Assert.True(Math.Abs(expected - gradients[view.Offset + i]) < 1e-5 + (1e-4 * Math.Abs(expected)), $"{view.Name}[{i}]: {expected} by differences, {gradients[view.Offset + i]} by backward");
            }
        }
    }

    // Each text is one of 8 ids over and over: what is masked stands at all other places.
    [Theory]
    [MemberData(nameof(Architectures))]
    public void DescentLearnsToFillIn(string architecture)
    {
        using var model = TestModels.Create(Config(architecture), scale: 1);
        var masking = Masking.Of(model.Config)!;
        var (inputs, targets) = (new int[96], new int[96]);
        var losses = new List<float>();
        for (var step = 0; step < 150; step++)
        {
            for (var row = 0; row < 8; row++)
            {
                masking.Apply([.. Enumerable.Repeat(row + 3, 12)], Seeds.Derive(1, "mask", (step * 8) + row), inputs.AsSpan(12 * row, 12), targets.AsSpan(12 * row, 12));
            }

            model.Parameters.ZeroGradients();
            losses.Add(model.AccumulateGradients(inputs, targets, 8, 1f / 16, 0));
            for (var i = 0; i < model.Parameters.Length; i++)
            {
                model.Parameters.Values[i] -= 0.5f * model.Parameters.Gradients[i];
            }
        }

        Assert.InRange(losses[0], Math.Log(29) - 0.3f, Math.Log(29) + 0.3f);
        Assert.True(losses[^20..].Average() < 0.5, $"from {losses[0]} to {losses[^20..].Average()}");
    }

    [Theory]
    [MemberData(nameof(Architectures))]
    public async Task ItsFilesSayWhatItPredicts(string architecture)
    {
        using var model = TestModels.Create(Config(architecture));
        var path = Directory.CreateTempSubdirectory("masked-").FullName;
        try
        {
            var writer = BlobStore.Open($"folder={path}").CreateDirectory("m");
            await ModelDirectory.WriteAsync(writer, model, "{}", cancellationToken: TestContext.Current.CancellationToken);
            var folder = Path.Combine(path, "m");
            using var loaded = ModelDirectory.LoadNetwork(folder, torch.CPU);
            Assert.Equal(model.Config, loaded.Config);
            var config = JsonNode.Parse(await File.ReadAllTextAsync(Path.Combine(folder, "config.json"), TestContext.Current.CancellationToken))!;
            Assert.Equal(("masked", 27), ((string?)config["objective"], (int)config["mask_token_id"]!));
            Assert.EndsWith("ForMaskedLM", (string?)config["architectures"]![0], StringComparison.Ordinal);
            foreach (var (key, value, message) in new (string, JsonNode?, string)[] { ("objective", "span", "'span'"), ("mask_token_id", 29, "MaskTokenId is 29"), ("mask_token_id", null, "mask_token_id is missing") })
            {
                var changed = config.DeepClone();
                changed[key] = value;
                await File.WriteAllTextAsync(Path.Combine(folder, "config.json"), changed.ToJsonString(), TestContext.Current.CancellationToken);
                Assert.Contains(message, Assert.Throws<InvalidDataException>(() => ModelDirectory.ReadConfig(folder)).Message, StringComparison.Ordinal);
            }
        }
        finally
        {
            Directory.Delete(path, recursive: true);
        }
    }

    [Fact]
    public void WhatMakesNoSenseIsRefused()
    {
        using var model = TestModels.Create(Config("gpt2"));
        Assert.Contains("continues no text", Assert.Throws<InvalidOperationException>(() => model.BeginGeneration(1)).Message, StringComparison.Ordinal);
        Assert.Contains("sees only what comes before", Assert.Throws<ArgumentException>(() => (TestModels.Tiny with { Architecture = "lstm", Heads = 0, Objective = Objective.Masked, MaskTokenId = 1 }).Validate()).Message, StringComparison.Ordinal);
        Assert.Contains("MaskTokenId is null", Assert.Throws<ArgumentException>(() => (Config("gpt2") with { MaskTokenId = null }).Validate()).Message, StringComparison.Ordinal);
        Assert.Contains("MaskTokenId is 3", Assert.Throws<ArgumentException>(() => (TestModels.Tiny with { MaskTokenId = 3 }).Validate()).Message, StringComparison.Ordinal);
    }

    // What fills up a shorter document is not seen, so it is the same alone, in a batch, and in Classify.
    [Theory]
    [InlineData("gpt2", 0)]
    [InlineData("llama", 0)]
    [InlineData("llama", 0.2)]
    public void AClassifierOnAMaskedNetworkSeesTheDocumentAlone(string architecture, double dropout)
    {
        using var model = TestModels.Create(Config(architecture) with { Labels = ["few", "many"], Dropout = dropout });
        int[] document = [5, 3, 8, 1], longer = TestModels.RandomIds(9, 4);
        var logProbabilities = new double[2];
        model.Classify(document, logProbabilities);
        int[] inputs = [.. document, 28, 28, 28, 28, 28, .. longer], targets = [.. Enumerable.Repeat(LanguageModel.IgnoredTarget, 18)];
        (targets[3], targets[17]) = (1, 0);
        var (sums, correct) = (new double[2], new long[2]);
        model.EvaluateSequences(inputs, targets, 2, sums, correct);
        Assert.Equal(-logProbabilities[1], sums[0], 1e-5);
        var first = TestModels.GradientsOf(model, inputs, targets, 2, 1);
        (inputs[6], inputs[8]) = (2, 17);
        Assert.Equal(first, TestModels.GradientsOf(model, inputs, targets, 2, 1));
        inputs[0] = 6;
        Assert.NotEqual(first, TestModels.GradientsOf(model, inputs, targets, 2, 1));
    }

    private static ModelConfig Config(string architecture) => (architecture == "llama" ? TestModels.TinyLlama : TestModels.Tiny) with { Objective = Objective.Masked, MaskTokenId = 27 };

    private static (Func<IReadOnlyList<int>, double[][]> Logits, Func<IReadOnlyList<int>, IReadOnlyList<int>, double> LossSum) Reference(LanguageModel model, Dictionary<string, double[]>? tensors = null)
    {
        tensors ??= TestModels.TensorsOf(model);
        if (model.Config.Architecture == "llama")
        {
            var llama = new ReferenceLlama(model.Config, tensors);
            return (llama.Logits, llama.LossSum);
        }

        var gpt = new ReferenceGpt(model.Config, tensors);
        return (gpt.Logits, gpt.LossSum);
    }
}
