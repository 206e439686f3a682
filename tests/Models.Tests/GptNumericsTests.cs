using System.Runtime.InteropServices;
using System.Security.Cryptography;
using TorchSharp;

namespace LlmPipeline.Models.Tests;

public sealed class GptNumericsTests
{
    public static TheoryData<bool, int, int> Sizes => new() { { true, 2, 16 }, { false, 2, 16 }, { true, 3, 24 }, { true, 1, 8 } };

    [Theory]
    [MemberData(nameof(Sizes))]
    public void LogitsEqualAnIndependentForwardPass(bool bias, int heads, int width)
    {
        using var model = TestModels.Create(TestModels.Tiny with { Bias = bias, Heads = heads, Width = width });
        var reference = ReferenceGpt.Of(model);
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
                    Assert.Equal(expected[t][v], logits[(((b * 12) + t) * 29) + v], 1e-5);
                    largest = Math.Max(largest, Math.Abs(expected[t][v]));
                }
            }
        }

        Assert.True(largest > 0.5, "The logits must be large enough for the comparison to mean something.");
    }

    [Fact]
    public void LossEqualsAnIndependentForwardPass()
    {
        using var model = TestModels.Create();
        var (inputs, targets) = (TestModels.RandomIds(36, 4), TestModels.RandomIds(36, 5));
        var reference = ReferenceGpt.Of(model);
        var expected = Enumerable.Range(0, 3).Select(b => reference.LossSum(inputs[(12 * b)..(12 * (b + 1))], targets[(12 * b)..(12 * (b + 1))])).ToArray();

        var (sums, correct) = (new double[3], new long[3]);
        model.EvaluateSequences(inputs, targets, 3, sums, correct);
        for (var b = 0; b < 3; b++)
        {
            Assert.Equal(expected[b], sums[b], 1e-4);
            var logits = reference.Logits(inputs[(12 * b)..(12 * (b + 1))]);
            Assert.Equal(logits.Where((row, t) => Array.IndexOf(row, row.Max()) == targets[(12 * b) + t]).Count(), correct[b]);
        }

        Assert.Equal((sums.Sum(), correct.Sum()), model.Evaluate(inputs, targets, 3));
        var mean = model.AccumulateGradients(inputs, targets, 3, 1f / 36, 0);
        Assert.Equal(expected.Sum() / 36, mean, 1e-5);
    }

    [Fact]
    public void LabelSmoothingMixesTheTargetWithAllOutputs()
    {
        const double Share = 0.2;
        using var model = TestModels.Create();
        var (inputs, targets) = (TestModels.RandomIds(12, 4), TestModels.RandomIds(12, 5));
        var logits = ReferenceGpt.Of(model).Logits(inputs);
        var (plain, uniform) = (0.0, 0.0);
        for (var t = 0; t < 12; t++)
        {
            var most = logits[t].Max();
            var logSum = most + Math.Log(logits[t].Sum(l => Math.Exp(l - most)));
            plain += logSum - logits[t][targets[t]];
            uniform += logits[t].Average(l => logSum - l);
        }

        var plainGradient = TestModels.GradientsOf(model, inputs, targets, 1);
        var averages = new float[plainGradient.Length];
        for (var v = 0; v < 29; v++)
        {
            // The mean over all targets is the uniform part.
            var gradient = TestModels.GradientsOf(model, inputs, [.. Enumerable.Repeat(v, 12)], 1);
            for (var i = 0; i < averages.Length; i++)
            {
                averages[i] += gradient[i] / 29;
            }
        }

        model.LabelSmoothing = Share;
        var mean = model.AccumulateGradients(inputs, targets, 1, 1f / 12, 0);
        Assert.Equal((((1 - Share) * plain) + (Share * uniform)) / 12, mean, 1e-5);
        Assert.Equal(plain, model.Evaluate(inputs, targets, 1).LossSum, 1e-4);
        var smoothed = TestModels.GradientsOf(model, inputs, targets, 1);
        var largest = plainGradient.Max(Math.Abs);
        for (var i = 0; i < smoothed.Length; i++)
        {
            Assert.Equal(((1 - Share) * plainGradient[i]) + (Share * averages[i]), smoothed[i], 1e-5 * largest);
        }
    }

    // The differences are taken in double precision on the reference, which the tests above tie to the network: fp32 differences
    // would be mostly rounding.
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void GradientsEqualFiniteDifferencesInEveryTensor(bool bias)
    {
        using var model = TestModels.Create(TestModels.Tiny with { Bias = bias });
        var (inputs, targets) = (TestModels.RandomIds(10, 6), TestModels.RandomIds(10, 7));
        var gradients = TestModels.GradientsOf(model, inputs, targets, 1);
        var tensors = TestModels.TensorsOf(model);
        var reference = new ReferenceGpt(model.Config, tensors);
        var random = new Random(8);
        foreach (var view in model.Parameters.Views)
        {
            var values = tensors[view.Name];
            for (var n = 0; n < 6; n++)
            {
                // Rows of the embeddings that the text uses.
                var i = view.Name switch
                {
                    "transformer.wte.weight" => (inputs[n] * 16) + random.Next(16),
                    "transformer.wpe.weight" => random.Next(160),
                    _ => random.Next(view.Length),
                };
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

    [Fact]
    public void GradientsOfMicroBatchesSumToTheGradientOfTheBatch()
    {
        using var model = TestModels.Create();
        var (inputs, targets) = (TestModels.RandomIds(48, 9), TestModels.RandomIds(48, 10));
        var whole = TestModels.GradientsOf(model, inputs, targets, 4);
        model.Parameters.ZeroGradients();
        model.AccumulateGradients(inputs.AsSpan(0, 24), targets.AsSpan(0, 24), 2, 1f / 48, 0);
        model.AccumulateGradients(inputs.AsSpan(24), targets.AsSpan(24), 2, 1f / 48, 0);
        var largest = whole.Max(Math.Abs);
        Assert.All(whole.Zip(model.Parameters.Gradients.ToArray()), pair => Assert.Equal(pair.First, pair.Second, 1e-6 * largest));
    }

    [Fact]
    public void IgnoredTargetsAddNothing()
    {
        using var model = TestModels.Create();
        var (inputs, targets) = (TestModels.RandomIds(12, 11), TestModels.RandomIds(12, 12));
        var expected = TestModels.GradientsOf(model, inputs[..8], targets[..8], 1, 1f / 8);
        int[] masked = [.. targets[..8], -100, -100, -100, -100];
        var actual = TestModels.GradientsOf(model, inputs, masked, 1, 1f / 8);
        Assert.All(expected.Zip(actual), pair => Assert.Equal(pair.First, pair.Second, 1e-6));
        Assert.Equal(model.Evaluate(inputs.AsSpan(0, 8), targets.AsSpan(0, 8), 1).LossSum, model.Evaluate(inputs, masked, 1).LossSum, 1e-5);
    }

    // The reference computes every row; the network leaves out the head of those without a target.
    [Fact]
    public void ScatteredTargetsHaveTheLossAndGradientOfTheirPlacesAlone()
    {
        using var model = TestModels.Create();
        var (inputs, targets) = (TestModels.RandomIds(36, 31), TestModels.RandomIds(36, 32));
        var places = Enumerable.Range(0, 36).Where(n => n is 0 or 5 or 11 or 12 or 13 or 30).ToHashSet();
        int[] few = [.. targets.Select((id, n) => places.Contains(n) ? id : LanguageModel.IgnoredTarget)];
        var logits = TestModels.ForwardLogits(model, inputs, 3);
        var (sums, correct) = (new double[3], new long[3]);
        foreach (var n in places)
        {
            var row = logits.AsSpan(29 * n, 29).ToArray();
            sums[n / 12] += Math.Log(row.Sum(v => Math.Exp(v))) - row[targets[n]];
            correct[n / 12] += Array.IndexOf(row, row.Max()) == targets[n] ? 1 : 0;
        }

        var (lossSums, correctCounts) = (new double[3], new long[3]);
        model.EvaluateSequences(inputs, few, 3, lossSums, correctCounts);
        Assert.All(sums.Zip(lossSums), pair => Assert.Equal(pair.First, pair.Second, 1e-4));
        Assert.Equal(correct, correctCounts);

        // The gradient of a sum is the sum of the gradients of its parts.
        var gradients = TestModels.GradientsOf(model, inputs, few, 3, 1);
        int[] others = [.. targets.Select((id, n) => places.Contains(n) ? LanguageModel.IgnoredTarget : id)];
        var parts = gradients.Zip(TestModels.GradientsOf(model, inputs, others, 3, 1), (a, b) => a + b).ToArray();
        var whole = TestModels.GradientsOf(model, inputs, targets, 3, 1);
        Assert.All(whole.Zip(parts), pair => Assert.Equal(pair.First, pair.Second, 1e-6 * whole.Max(Math.Abs)));
        Assert.Equal(sums.Sum() / places.Count, model.AccumulateGradients(inputs, few, 3, 1, 0), 1e-5);
    }

    [Theory]
    [InlineData(0.0)]
    [InlineData(0.2)]
    public void TheSameCallGivesTheSameBitsWhateverRanBetween(double dropout)
    {
        using var model = TestModels.Create(TestModels.Tiny with { Dropout = dropout });
        var (inputs, targets) = (TestModels.RandomIds(48, 13), TestModels.RandomIds(48, 14));
        var first = TestModels.GradientsOf(model, inputs, targets, 4, dropoutSeed: 5);

        TestModels.GradientsOf(model, targets, inputs, 6, dropoutSeed: 6);
        torch.manual_seed(99);
        model.Evaluate(inputs, targets, 4);
        Assert.True(Generation.Generate(model, inputs[..3], 20, new SamplingOptions()).Count() <= 20);
        using (var other = TestModels.Create(TestModels.Tiny with { Dropout = dropout }))
        {
            Assert.Equal(first, TestModels.GradientsOf(other, inputs, targets, 4, dropoutSeed: 5));
        }

        Assert.Equal(first, TestModels.GradientsOf(model, inputs, targets, 4, dropoutSeed: 5));
        if (dropout > 0)
        {
            Assert.NotEqual(first, TestModels.GradientsOf(model, inputs, targets, 4, dropoutSeed: 7));
        }
    }

    [Fact]
    public void TwoModelsOnTwoThreadsDoNotDisturbEachOther()
    {
        var config = TestModels.Tiny with { Dropout = 0.3 };
        var (inputs, targets) = (TestModels.RandomIds(48, 15), TestModels.RandomIds(48, 16));
        using var alone = TestModels.Create(config);
        var expected = TestModels.GradientsOf(alone, inputs, targets, 4, dropoutSeed: 1);
        Parallel.For(0, 2, new ParallelOptions { MaxDegreeOfParallelism = 2 }, _ =>
        {
            using var model = TestModels.Create(config);
            for (var n = 0; n < 20; n++)
            {
                Assert.Equal(expected, TestModels.GradientsOf(model, inputs, targets, 4, dropoutSeed: 1));
            }
        });
    }

    [Fact]
    public void ASequenceIsEvaluatedToTheSameBitsInAnyBatch()
    {
        using var model = TestModels.Create();
        var (inputs, targets) = (TestModels.RandomIds(60, 17), TestModels.RandomIds(60, 18));
        var (sums, correct) = (new double[5], new long[5]);
        model.EvaluateSequences(inputs, targets, 5, sums, correct);
        for (var b = 0; b < 5; b++)
        {
            Assert.Equal((sums[b], correct[b]), model.Evaluate(inputs.AsSpan(12 * b, 12), targets.AsSpan(12 * b, 12), 1));
        }
    }

    [Fact]
    public void DropoutKeepsTheMeanGradientAndIsOffInEvaluation()
    {
        using var with = TestModels.Create(TestModels.Tiny with { Dropout = 0.1 }, scale: 1);
        using var without = TestModels.Create(scale: 1);
        var (inputs, targets) = (TestModels.RandomIds(48, 19), TestModels.RandomIds(48, 20));
        Assert.Equal(TestModels.ForwardLogits(without, inputs, 4), TestModels.ForwardLogits(with, inputs, 4));
        Assert.Equal(without.Evaluate(inputs, targets, 4), with.Evaluate(inputs, targets, 4));

        // Near the beginning the loss is close to linear in the activations, so the mean over masks stays close.
        var expected = TestModels.GradientsOf(without, inputs, targets, 4);
        var mean = new double[expected.Length];
        const int Masks = 200;
        for (var n = 0; n < Masks; n++)
        {
            var gradients = TestModels.GradientsOf(with, inputs, targets, 4, dropoutSeed: (ulong)n);
            for (var i = 0; i < mean.Length; i++)
            {
                mean[i] += gradients[i] / Masks;
            }
        }

        var cosine = mean.Zip(expected, (a, b) => a * b).Sum() / Math.Sqrt(mean.Sum(a => a * a) * expected.Sum(b => (double)b * b));
        Assert.True(cosine > 0.99, $"cosine {cosine}");
    }

    [Fact]
    public void DescentOnOneBatchLearnsIt()
    {
        using var model = TestModels.Create(scale: 1);
        var (inputs, targets) = (TestModels.RandomIds(48, 21), TestModels.RandomIds(48, 22));
        var losses = new List<float>();
        for (var step = 0; step < 150; step++)
        {
            model.Parameters.ZeroGradients();
            losses.Add(model.AccumulateGradients(inputs, targets, 4, 1f / 48, 0));
            for (var i = 0; i < model.Parameters.Length; i++)
            {
                model.Parameters.Values[i] -= 0.5f * model.Parameters.Gradients[i];
            }
        }

        Assert.InRange(losses[0], Math.Log(29) - 0.2f, Math.Log(29) + 0.2f);
        Assert.True(losses[^1] < 0.5f, $"from {losses[0]} to {losses[^1]}");
    }

    [Fact]
    public void FreshWeightsAreTheBitsTheyWere()
    {
        TorchRuntime.Initialize();
        using var model = LanguageModel.Create(TestModels.Tiny, 42, torch.CPU);
        var hash = Convert.ToHexStringLower(SHA256.HashData(MemoryMarshal.AsBytes(model.Parameters.Values)));
        Assert.StartsWith("1908c15bf258a1c50e4293653c478dbe414441246cff87ea14", hash, StringComparison.Ordinal);
    }

    [Fact]
    public void FreshWeightsAreThoseOfGpt2()
    {
        TorchRuntime.Initialize();
        var config = TestModels.Tiny with { Width = 64, Layers = 2, VocabularySize = 500 };
        using var model = LanguageModel.Create(config, 7, torch.CPU);
        foreach (var view in model.Parameters.Views)
        {
            var values = model.Parameters.Values.Slice(view.Offset, view.Length).ToArray();
            if (view.Shape.Count == 1)
            {
                Assert.All(values, v => Assert.Equal(view.Name.EndsWith("weight", StringComparison.Ordinal) ? 1 : 0, v));
            }
            else
            {
                var expected = view.Name.EndsWith("c_proj.weight", StringComparison.Ordinal) ? 0.01 : 0.02;
                var n = Math.Sqrt(values.Length);
                Assert.InRange(values.Average(), -5 * expected / n, 5 * expected / n);
                Assert.InRange(Math.Sqrt(values.Average(v => (double)v * v)), expected * (1 - (4 / n)), expected * (1 + (4 / n)));
            }
        }

        // A tensor's values depend on seed and name alone.
        using var larger = LanguageModel.Create(config with { Layers = 2, VocabularySize = 500, Bias = false }, 7, torch.CPU);
        Assert.Equal(ValuesOf(model, "transformer.h.1.mlp.c_fc.weight"), ValuesOf(larger, "transformer.h.1.mlp.c_fc.weight"));
        using var other = LanguageModel.Create(config, 8, torch.CPU);
        Assert.NotEqual(ValuesOf(model, "transformer.wpe.weight"), ValuesOf(other, "transformer.wpe.weight"));
    }

    [Fact]
    public void BuffersAreAlignedAndDecayedTensorsComeFirst()
    {
        using var model = TestModels.Create(TestModels.Tiny with { Width = 6, VocabularySize = 7, EndOfTextId = 0 });
        var parameters = model.Parameters;
        Assert.All(parameters.Views, v => Assert.Equal(0, v.Offset % 16));
        Assert.All(parameters.Views, v => Assert.Equal(v.Shape.Count >= 2, v.Offset < parameters.DecayedLength));
        Assert.Equal(parameters.Views.Sum(v => (long)v.Length), parameters.ParameterCount);
        TestModels.GradientsOf(model, [1, 2, 3], [2, 3, 4], 1);
        var used = new bool[parameters.Length];
        foreach (var view in parameters.Views)
        {
            used.AsSpan(view.Offset, view.Length).Fill(true);
        }

        for (var i = 0; i < used.Length; i++)
        {
            Assert.True(used[i] || (parameters.Values[i] == 0 && parameters.Gradients[i] == 0), $"padding at {i} is not 0");
        }
    }

    [Fact]
    public void NanoGptSizesHaveNanoGptsParameterCount()
    {
        TorchRuntime.Initialize();
        using var model = LanguageModel.Create(new ModelConfig { VocabularySize = 65, Layers = 4, Heads = 4, Width = 128, Context = 64, Bias = false }, 1, torch.CPU);
        Assert.Equal(804_096, model.Parameters.ParameterCount);
        using var gpt2 = LanguageModel.Create(TestModels.Tiny with { VocabularySize = 50257, Width = 8, Context = 1024, Layers = 1 }, 1, torch.CPU);
        Assert.Equal((50257 * 8) + (1024 * 8) + (12 * 8 * 8) + (13 * 8) + (2 * 8), gpt2.Parameters.ParameterCount);
    }

    [Fact]
    public void WrongInputIsRefusedWithItsPlace()
    {
        using var model = TestModels.Create();
        int[] good = [1, 2, 3, 4];
        Assert.Contains("29 at place 2", Assert.Throws<ArgumentException>(() => model.AccumulateGradients([1, 2, 29, 3], good, 1, 1, 0)).Message, StringComparison.Ordinal);
        Assert.Contains("-1 at place 0", Assert.Throws<ArgumentException>(() => model.Evaluate(good, [-1, 1, 2, 3], 1)).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => model.Evaluate([-100, 1, 2, 3], good, 1));
        Assert.Throws<ArgumentException>(() => model.AccumulateGradients(good, good, 3, 1, 0));
        Assert.Throws<ArgumentException>(() => model.AccumulateGradients(good, [1], 1, 1, 0));
        Assert.Throws<ArgumentException>(() => model.AccumulateGradients(good, [-100, -100, -100, -100], 1, 1, 0));
        Assert.Throws<ArgumentException>(() => model.AccumulateGradients(new int[13], new int[13], 1, 1, 0));
        Assert.Throws<ArgumentException>(() => LanguageModel.Create(TestModels.Tiny with { Heads = 3 }, 1, torch.CPU));
        Assert.Throws<ArgumentException>(() => LanguageModel.Create(TestModels.Tiny with { Architecture = "bert" }, 1, torch.CPU));
    }

    private static float[] ValuesOf(LanguageModel model, string name)
    {
        var view = model.Parameters.Views.Single(v => v.Name == name);
        return model.Parameters.Values.Slice(view.Offset, view.Length).ToArray();
    }
}
