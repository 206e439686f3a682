using System.Runtime.InteropServices;

namespace LlmPipeline.Models.Tests;

public sealed class FeedForwardTests
{
    private const int Vocabulary = 29, Time = 12;

    public static TheoryData<int, int, bool, bool, bool> Networks => new()
    {
        { 1, 3, true, true, false }, { 2, 3, true, false, false }, { 1, 1, false, true, true }, { 3, 5, false, false, true },
    };

    [Theory]
    [MemberData(nameof(Networks))]
    public void LogitsEqualAnIndependentForwardPass(int layers, int window, bool direct, bool bias, bool tied)
    {
        using var model = Create(layers, window, direct, bias, tied);
        var tensors = Tensors(model);
        var ids = TestModels.RandomIds(3 * Time, 3);
        var logits = TestModels.ForwardLogits(model, ids, 3);
        var largest = 0.0;
        for (var b = 0; b < 3; b++)
        {
            var expected = Reference(model.Config, tensors, ids[(Time * b)..(Time * (b + 1))]);
            for (var n = 0; n < Time * Vocabulary; n++)
            {
                Assert.Equal(expected[n / Vocabulary][n % Vocabulary], logits[(b * Time * Vocabulary) + n], 1e-5);
                largest = Math.Max(largest, Math.Abs(logits[(b * Time * Vocabulary) + n]));
            }
        }

        Assert.True(largest > 0.5, "The logits must be large enough for the comparison to mean something.");
    }

    [Theory]
    [MemberData(nameof(Networks))]
    public void GradientsEqualFiniteDifferencesInEveryTensor(int layers, int window, bool direct, bool bias, bool tied)
    {
        using var model = Create(layers, window, direct, bias, tied);
        var (inputs, targets) = (TestModels.RandomIds(Time, 6), TestModels.RandomIds(Time, 7));
        var gradients = TestModels.GradientsOf(model, inputs, targets, 1);
        var tensors = Tensors(model);
        var random = new Random(8);
        foreach (var view in model.Parameters.Views)
        {
            var values = tensors[view.Name];
            for (var n = 0; n < 8; n++)
            {
                var row = (int)view.Shape[^1];
                var i = view.Name == "embedding.weight" ? (inputs[n] * row) + random.Next(row) : random.Next(view.Length);
                const double Step = 1e-5;
                var value = values[i];
                values[i] = value + Step;
                var above = LossSum();
                values[i] = value - Step;
                var below = LossSum();
                values[i] = value;
                var expected = (above - below) / (2 * Step) / inputs.Length;
                Assert.True(Math.Abs(expected - gradients[view.Offset + i]) < 1e-5 + (1e-4 * Math.Abs(expected)), $"{view.Name}[{i}]: {expected} by differences, {gradients[view.Offset + i]} by backward");
            }
        }

        double LossSum() => Reference(model.Config, tensors, inputs).Select((row, t) => Math.Log(row.Sum(v => Math.Exp(v - row.Max()))) + row.Max() - row[targets[t]]).Sum();
    }

    [Fact]
    public void GenerationStepByStepEqualsTheWholeForwardPassAndHasNoLimit()
    {
        using var model = Create(2, 4, true, true, false);
        var ids = TestModels.RandomIds(2 * Time, 13);
        var whole = TestModels.ForwardLogits(model, ids, 2);
        using var state = model.BeginGeneration(2);
        var logits = new float[2 * Vocabulary];
        foreach (var (begin, end) in new[] { (0, 1), (1, 2), (2, 7), (7, 8), (8, Time) })
        {
            state.Append([.. ids[begin..end], .. ids[(Time + begin)..(Time + end)]], logits);
            for (var b = 0; b < 2; b++)
            {
                var expected = whole.AsSpan((((b * Time) + end) - 1) * Vocabulary, Vocabulary).ToArray();
                Assert.All(expected.Zip(logits[(b * Vocabulary)..((b + 1) * Vocabulary)]), pair => Assert.Equal(pair.First, pair.Second, 1e-5));
            }
        }

        Assert.Null(model.MaxPositions);
        state.Append(TestModels.RandomIds(2 * 10 * Time, 14), logits);
        Assert.Equal(11 * Time, state.Length);
    }

    [Fact]
    public void TheSameSeedDropsTheSame()
    {
        using var model = TestModels.Create(Config(1, 3, true, true, false) with { Dropout = 0.3 });
        var (inputs, targets) = (TestModels.RandomIds(2 * Time, 15), TestModels.RandomIds(2 * Time, 16));
        var first = TestModels.GradientsOf(model, inputs, targets, 2, dropoutSeed: 7);
        Assert.Equal(MemoryMarshal.Cast<float, int>(first), MemoryMarshal.Cast<float, int>(TestModels.GradientsOf(model, inputs, targets, 2, dropoutSeed: 7)));
        Assert.NotEqual(first, TestModels.GradientsOf(model, inputs, targets, 2, dropoutSeed: 8));
    }

    [Theory]
    [InlineData(0, 0, "Window is 0")]
    [InlineData(3, 2, "Heads is 2")]
    public void ImpossibleSizesAreNamed(int window, int heads, string expected)
        => Assert.Contains(expected, Assert.Throws<ArgumentException>(() => (Config(1, window, false, true, false) with { Heads = heads }).Validate()).Message);

    private static ModelConfig Config(int layers, int window, bool direct, bool bias, bool tied) => new()
    {
        Architecture = "feed-forward",
        VocabularySize = Vocabulary,
        Layers = layers,
        Width = 16,
        EmbeddingWidth = 6,
        Context = Time,
        Window = window,
        DirectConnections = direct,
        Bias = bias,
        Tied = tied,
        EndOfTextId = 28,
    };

    // Direct connections are 0 in a fresh network.
    private static LanguageModel Create(int layers, int window, bool direct, bool bias, bool tied)
    {
        var model = TestModels.Create(Config(layers, window, direct, bias, tied), scale: 2);
        var random = new Random(9);
        foreach (ref var value in model.Parameters.ValuesOf("direct.weight"))
        {
            value = random.NextSingle() - 0.5f;
        }

        return model;
    }

    private static Dictionary<string, double[]> Tensors(LanguageModel model)
        => model.Parameters.Views.ToDictionary(v => v.Name, v => model.Parameters.Values.Slice(v.Offset, v.Length).ToArray().Select(x => (double)x).ToArray());

    /// <summary>Bengio et al. 2003, equation 1, in plain double-precision loops, with as many hidden layers as there are.</summary>
    private static double[][] Reference(ModelConfig config, Dictionary<string, double[]> tensors, int[] ids)
    {
        var embedding = tensors["embedding.weight"];
        var width = config.EmbeddingWidth!.Value;
        return [.. ids.Select((_, t) =>
        {
            double[] x = [.. Enumerable.Range(t - config.Window + 1, config.Window).SelectMany(s => embedding.Skip((s < 0 ? config.EndOfTextId : ids[s]) * width).Take(width))];
            var h = x;
            for (var i = 0; i < config.Layers; i++)
            {
                h = [.. Product(tensors[$"hidden.{i}.weight"], h, $"hidden.{i}.bias").Select(Math.Tanh)];
            }

            h = tensors.TryGetValue("projection.weight", out var projection) ? Product(projection, h, "") : h;
            var y = Product(tensors.GetValueOrDefault("lm_head.weight") ?? embedding, h, "lm_head.bias");
            return tensors.TryGetValue("direct.weight", out var direct) ? [.. y.Zip(Product(direct, x, ""), (a, b) => a + b)] : y;
        })];

        double[] Product(double[] weight, double[] x, string bias)
            => [.. Enumerable.Range(0, weight.Length / x.Length).Select(row => Enumerable.Range(0, x.Length).Sum(c => weight[(row * x.Length) + c] * x[c]) + (tensors.GetValueOrDefault(bias)?[row] ?? 0))];
    }
}
