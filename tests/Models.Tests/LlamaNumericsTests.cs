using System.Text.Json.Nodes;
using LlmPipeline.Fakes;
using TorchSharp;

namespace LlmPipeline.Models.Tests;

public sealed class LlamaNumericsTests
{
    // Heads, heads of keys and values, head size (0: width / heads), tied.
    public static TheoryData<int, int, int, bool> Sizes => new() { { 2, 2, 0, false }, { 4, 2, 0, true }, { 4, 1, 0, false }, { 2, 1, 6, true } };

    [Theory]
    [MemberData(nameof(Sizes))]
    public void LogitsEqualAnIndependentForwardPass(int heads, int kvHeads, int headSize, bool tied)
    {
        using var model = TestModels.Create(TestModels.TinyLlama with { Heads = heads, KvHeads = kvHeads, HeadSize = headSize, Tied = tied, RopeTheta = 500 });
        var reference = new ReferenceLlama(model.Config, TestModels.TensorsOf(model));
        var ids = TestModels.RandomIds(36, 3);
        var logits = TestModels.ForwardLogits(model, ids, 3);
        var largest = 0.0;
        for (var b = 0; b < 3; b++)
        {
            var expected = reference.Logits(ids[(12 * b)..(12 * (b + 1))]);
            for (var t = 0; t < 12; t++)
            {
                for (var v = 0; v < 29; v++)
                {
                    Assert.Equal(expected[t][v], logits[(((b * 12) + t) * 29) + v], 1e-5 * Math.Max(1, Math.Abs(expected[t][v])));
                    largest = Math.Max(largest, Math.Abs(expected[t][v]));
                }
            }
        }

        Assert.True(largest > 0.5, "The logits must be large enough for the comparison to mean something.");
    }

    // The differences are taken in double precision on the reference, which the test above ties to the network.
    [Theory]
    [MemberData(nameof(Sizes))]
    public void GradientsEqualFiniteDifferencesInEveryTensor(int heads, int kvHeads, int headSize, bool tied)
    {
        using var model = TestModels.Create(TestModels.TinyLlama with { Heads = heads, KvHeads = kvHeads, HeadSize = headSize, Tied = tied });
        var (inputs, targets) = (TestModels.RandomIds(10, 6), TestModels.RandomIds(10, 7));
        var gradients = TestModels.GradientsOf(model, inputs, targets, 1);
        var tensors = TestModels.TensorsOf(model);
        var reference = new ReferenceLlama(model.Config, tensors);
        var random = new Random(8);
        foreach (var view in model.Parameters.Views)
        {
            var values = tensors[view.Name];
            for (var n = 0; n < 6; n++)
            {
                // Rows of the embedding that the text uses.
                var i = view.Name == "model.embed_tokens.weight" ? (inputs[n] * 16) + random.Next(16) : random.Next(view.Length);
                const double Step = 1e-5;
                var value = values[i];
                values[i] = value + Step;
                var above = reference.LossSum(inputs, targets);
                values[i] = value - Step;
                var below = reference.LossSum(inputs, targets);
                values[i] = value;
                var expected = (above - below) / (2 * Step) / 10;
                Assert.True(Math.Abs(expected - gradients[view.Offset + i]) < 1e-5 + (1e-4 * Math.Abs(expected)), $"{view.Name}[{i}]: {expected} by differences, {gradients[view.Offset + i]} by backward");
            }
        }
    }

    [Theory]
    [MemberData(nameof(Sizes))]
    public void AGenerationGivesTheLogitsOfTheWholeText(int heads, int kvHeads, int headSize, bool tied)
    {
        using var model = TestModels.Create(TestModels.TinyLlama with { Heads = heads, KvHeads = kvHeads, HeadSize = headSize, Tied = tied });
        var ids = TestModels.RandomIds(24, 9);
        var expected = TestModels.ForwardLogits(model, ids, 2);
        foreach (int[] lengths in new int[][] { [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1], [5, 1, 1, 3, 2], [12] })
        {
            using var state = model.BeginGeneration(2);
            var logits = new float[2 * 29];
            foreach (var length in lengths)
            {
                var at = state.Length;
                state.Append([.. ids[at..(at + length)], .. ids[(12 + at)..(12 + at + length)]], logits);
                for (var v = 0; v < 2 * 29; v++)
                {
                    Assert.Equal(expected[(((12 * (v / 29)) + at + length - 1) * 29) + (v % 29)], logits[v], 1e-4);
                }
            }

            Assert.Equal(12, state.Length);
        }
    }

    [Theory]
    [InlineData(0.0)]
    [InlineData(0.2)]
    public void TheSameCallGivesTheSameBitsWhateverRanBetween(double dropout)
    {
        using var model = TestModels.Create(TestModels.TinyLlama with { Dropout = dropout });
        var (inputs, targets) = (TestModels.RandomIds(48, 13), TestModels.RandomIds(48, 14));
        var first = TestModels.GradientsOf(model, inputs, targets, 4, dropoutSeed: 5);
        TestModels.GradientsOf(model, targets, inputs, 6, dropoutSeed: 6);
        torch.manual_seed(99);
        model.Evaluate(inputs, targets, 4);
        Assert.True(Generation.Generate(model, inputs[..3], 20, new SamplingOptions()).Count() <= 20);
        Assert.Equal(first, TestModels.GradientsOf(model, inputs, targets, 4, dropoutSeed: 5));
        if (dropout > 0)
        {
            Assert.NotEqual(first, TestModels.GradientsOf(model, inputs, targets, 4, dropoutSeed: 7));
            using var without = TestModels.Create(TestModels.TinyLlama);
            Assert.Equal(without.Evaluate(inputs, targets, 4), model.Evaluate(inputs, targets, 4));
        }
    }

    [Fact]
    public void FreshWeightsHaveTheSpreadThatTheyShould()
    {
        TorchRuntime.Initialize();
        using var model = LanguageModel.Create(TestModels.TinyLlama with { Width = 64, FeedForwardWidth = 96, VocabularySize = 500 }, 7, torch.CPU);
        foreach (var view in model.Parameters.Views)
        {
            var values = model.Parameters.Values.Slice(view.Offset, view.Length).ToArray();
            if (view.Shape.Count == 1)
            {
                Assert.All(values, v => Assert.Equal(1, v));
                continue;
            }

            var expected = view.Name.Contains("o_proj", StringComparison.Ordinal) || view.Name.Contains("down_proj", StringComparison.Ordinal) ? 0.01 : 0.02;
            var n = Math.Sqrt(values.Length);
            Assert.InRange(values.Average(), -5 * expected / n, 5 * expected / n);
            Assert.InRange(Math.Sqrt(values.Average(v => (double)v * v)), expected * (1 - (4 / n)), expected * (1 + (4 / n)));
        }
    }

    [Theory]
    [InlineData(0.0)]
    [InlineData(0.1)]
    public void Bf16GradientsPointWhereThoseOfFp32Do(double dropout)
    {
        using var model = TestModels.Create(TestModels.TinyLlama with { Dropout = dropout }, scale: 2);
        var (inputs, targets) = (TestModels.RandomIds(48, 23), TestModels.RandomIds(48, 24));
        var expected = TestModels.GradientsOf(model, inputs, targets, 4, dropoutSeed: 3);
        model.Precision = Precision.Bf16;
        var actual = TestModels.GradientsOf(model, inputs, targets, 4, dropoutSeed: 3);
        var cosine = expected.Zip(actual, (a, b) => (double)a * b).Sum() / Math.Sqrt(expected.Sum(a => (double)a * a) * actual.Sum(b => (double)b * b));
        Assert.NotEqual(expected, actual);
        Assert.True(cosine > 0.995, $"cosine {cosine}");
    }

    [Fact]
    public void SizesThatCannotBeAreNamed()
    {
        Assert.Contains("KvHeads is 3", Error(TestModels.TinyLlama with { KvHeads = 3 }), StringComparison.Ordinal);
        Assert.Contains("KvHeads is 0", Error(TestModels.TinyLlama with { KvHeads = 0 }), StringComparison.Ordinal);
        Assert.Contains("Heads is 3", Error(TestModels.TinyLlama with { Heads = 3 }), StringComparison.Ordinal);
        Assert.Contains("even number", Error(TestModels.TinyLlama with { HeadSize = 5 }), StringComparison.Ordinal);
        Assert.Contains("FeedForwardWidth is 0", Error(TestModels.TinyLlama with { FeedForwardWidth = 0 }), StringComparison.Ordinal);
        Assert.Contains("RopeTheta is 0", Error(TestModels.TinyLlama with { RopeTheta = 0 }), StringComparison.Ordinal);
        Assert.Contains("no biases", Error(TestModels.TinyLlama with { Bias = true }), StringComparison.Ordinal);

        static string Error(ModelConfig config) => Assert.Throws<ArgumentException>(() => LanguageModel.Create(config, 1, torch.CPU)).Message;
    }

    // Computed by an independent double-precision forward pass from the same files.
    [Fact]
    public void AHuggingFaceDirectoryGivesItsExpectedLogits()
    {
        TorchRuntime.Initialize();
        var folder = TestData.PathOf("llama-hf-layout");
        var expected = JsonNode.Parse(File.ReadAllText(Path.Combine(folder, "expected.json")))!;
        int[] ids = [.. expected["input_ids"]!.AsArray().Select(id => (int)id!)];
        using var model = ModelDirectory.LoadNetwork(folder, torch.CPU);
        Assert.Equal((1, 2), (model.BeginOfTextId, model.EndOfTextId));
        var logits = TestModels.ForwardLogits(model, ids, 1).Chunk(model.VocabularySize).ToArray();
        for (var t = 0; t < ids.Length; t++)
        {
            var (top, values, first) = (Row("top5_ids"), Row("top5_logits"), Row("first8_logits"));
            Assert.Equal(top.Select(id => (int)id), Enumerable.Range(0, logits[t].Length).OrderByDescending(v => logits[t][v]).Take(5));
            Assert.All(top.Zip(values), pair => Assert.Equal(pair.Second, logits[t][(int)pair.First], 1e-5));
            Assert.All(first.Zip(logits[t]), pair => Assert.Equal(pair.First, pair.Second, 1e-5));

            double[] Row(string key) => [.. expected[key]![t]!.AsArray().Select(value => (double)value!)];
        }

        var losses = expected["nll_of_next"]!.AsArray().Select(value => (double)value!).ToArray();
        for (var t = 0; t < losses.Length; t++)
        {
            int[] targets = [.. ids[1..].Select((id, place) => place == t ? id : LanguageModel.IgnoredTarget)];
            Assert.Equal(losses[t], model.Evaluate(ids.AsSpan(0, ids.Length - 1), targets, 1).LossSum, 1e-5);
        }

        Assert.Equal((double)expected["mean_nll"]!, model.Evaluate(ids.AsSpan(0, ids.Length - 1), ids.AsSpan(1), 1).LossSum / losses.Length, 1e-5);
    }
}
