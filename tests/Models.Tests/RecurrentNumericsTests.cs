using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using LlmPipeline.Models.Networks;
using TorchSharp;

namespace LlmPipeline.Models.Tests;

public sealed class RecurrentNumericsTests
{
    private const int Vocabulary = 29, Time = 12;

    // Widths with and without a rest when 16 numbers go at a time.
    public static TheoryData<string, int, int?, bool, bool> Networks => new()
    {
        { "rnn", 16, null, true, false }, { "rnn", 21, 9, true, true }, { "rnn", 5, null, false, true },
        { "lstm", 16, null, true, false }, { "lstm", 21, 9, true, true }, { "lstm", 5, null, false, true },
        { "gru", 16, null, true, false }, { "gru", 21, 9, true, true }, { "gru", 5, null, false, true },
    };

    public static TheoryData<string> Cells => ["rnn", "lstm", "gru"];

    [Theory]
    [MemberData(nameof(Networks))]
    public void LogitsEqualAnIndependentForwardPass(string architecture, int width, int? embedding, bool bias, bool tied)
    {
        using var model = Create(architecture, width, embedding, bias, tied);
        var reference = new ReferenceRecurrent(model.Config, Tensors(model));
        var ids = TestModels.RandomIds(3 * Time, 3);
        var logits = TestModels.ForwardLogits(model, ids, 3);
        var largest = 0.0;
        for (var b = 0; b < 3; b++)
        {
            var expected = reference.Logits(ids[(Time * b)..(Time * (b + 1))]);
            for (var n = 0; n < Time * Vocabulary; n++)
            {
                Assert.Equal(expected[n / Vocabulary][n % Vocabulary], logits[(b * Time * Vocabulary) + n], 1e-5);
                largest = Math.Max(largest, Math.Abs(logits[(b * Time * Vocabulary) + n]));
            }
        }

        Assert.True(largest > 0.5, "The logits must be large enough for the comparison to mean something.");
    }

    // The differences are taken in double precision on the reference, which the test above ties to the network.
    [Theory]
    [MemberData(nameof(Networks))]
    public void GradientsEqualFiniteDifferencesInEveryTensor(string architecture, int width, int? embedding, bool bias, bool tied)
    {
        using var model = Create(architecture, width, embedding, bias, tied);
        var (inputs, targets) = (TestModels.RandomIds(2 * Time, 6), TestModels.RandomIds(2 * Time, 7));
        var gradients = TestModels.GradientsOf(model, inputs, targets, 2);
        var tensors = Tensors(model);
        var reference = new ReferenceRecurrent(model.Config, tensors);
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

        double LossSum() => reference.LossSum(inputs[..Time], targets[..Time]) + reference.LossSum(inputs[Time..], targets[Time..]);
    }

    [Theory]
    [MemberData(nameof(Cells))]
    public void LogitsAndGradientsEqualThoseThatPyTorchRecorded(string architecture)
    {
        var recorded = JsonNode.Parse(File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "Recorded", "recurrent.json")))!;
        var network = recorded["networks"]![architecture]!;
        var (ids, targets) = (Numbers<int>(recorded["ids"]!), Numbers<int>(recorded["targets"]!));
        using var model = LanguageModel.Create(
            new ModelConfig
            {
                Architecture = architecture,
                VocabularySize = (int)recorded["vocabulary"]!,
                Layers = (int)recorded["layers"]!,
                Width = (int)recorded["hidden"]!,
                EmbeddingWidth = (int)recorded["embedding"]!,
                Context = ids.Length / 2,
                Tied = false,
            },
            1, torch.CPU);
        var names = network["tensors"]!.AsArray().Select(n => (string)n!).ToArray();
        Assert.Equal(names.Order(StringComparer.Ordinal), model.Parameters.Views.Select(v => v.Name).Order(StringComparer.Ordinal));
        for (var i = 0; i < names.Length; i++)
        {
            var values = model.Parameters.ValuesOf(names[i]);
            for (var k = 0; k < values.Length; k++)
            {
                values[k] = (float)(Math.Sin((0.37 * k) + i) / 2); // as the script has it
            }
        }

        Assert.All(Numbers<double>(network["logits"]!).Zip(TestModels.ForwardLogits(model, ids, 2)), pair => Assert.Equal(pair.First, pair.Second, 2e-6));
        var gradients = TestModels.GradientsOf(model, ids, targets, 2);
        foreach (var view in model.Parameters.Views)
        {
            Assert.All(Numbers<double>(network["gradients"]![view.Name]!).Zip(gradients.Skip(view.Offset).Take(view.Length)), pair => Assert.Equal(pair.First, pair.Second, 2e-6));
        }

        static T[] Numbers<T>(JsonNode node) => [.. node.AsArray().Select(n => n!.GetValue<T>())];
    }

    [Theory]
    [MemberData(nameof(Cells))]
    public void ByHandAndInPlainOpsGiveTheSameLossAndGradient(string architecture)
    {
        var config = Config(architecture) with { Dropout = 0.2, RecurrentDropout = 0.3, VariationalDropout = true, Width = 21, EmbeddingWidth = 9 };
        using var model = (Recurrent)TestModels.Create(config, scale: 2);
        var (inputs, targets) = (TestModels.RandomIds(3 * Time, 11), TestModels.RandomIds(3 * Time, 12));
        var byHand = TestModels.GradientsOf(model, inputs, targets, 3, dropoutSeed: 5);
        var logits = TestModels.ForwardLogits(model, inputs, 3);
        model.InPlainOps = true;
        var inPlainOps = TestModels.GradientsOf(model, inputs, targets, 3, dropoutSeed: 5);
        Assert.All(logits.Zip(TestModels.ForwardLogits(model, inputs, 3)), pair => Assert.Equal(pair.First, pair.Second, 2e-6));
        var largest = inPlainOps.Max(Math.Abs);
        Assert.All(byHand.Zip(inPlainOps), pair => Assert.Equal(pair.First, pair.Second, 2e-6 * largest));
    }

    [Theory]
    [MemberData(nameof(Cells))]
    public void GenerationStepByStepEqualsTheWholeForwardPassAndHasNoLimit(string architecture)
    {
        using var model = Create(architecture, 21, null, true, false);
        var ids = TestModels.RandomIds(2 * Time, 13);
        var whole = TestModels.ForwardLogits(model, ids, 2);
        using var state = model.BeginGeneration(2);
        var logits = new float[2 * Vocabulary];
        foreach (var (begin, end) in new[] { (0, 3), (3, 4), (4, 5), (5, 9), (9, Time) })
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
        Assert.All(logits, value => Assert.True(float.IsFinite(value)));
    }

    [Theory]
    [InlineData("lstm")]
    [InlineData("feed-forward")]
    public void GenerationGoesPastTheLengthOfTrainingWithoutBeginningAgain(string architecture)
    {
        var config = Config(architecture) with { Window = architecture == "lstm" ? 0 : 3, EndOfTextId = 28 };
        using var model = TestModels.Create(config, scale: 3);
        var prompt = TestModels.RandomIds(2 * Time, 19, 28);
        var greedy = Generation.GenerateGreedy(model, [prompt], 3 * Time)[0];
        using var state = model.BeginGeneration(1);
        var logits = new float[Vocabulary];
        state.Append(prompt, logits);
        foreach (var id in greedy)
        {
            Assert.Equal(Array.IndexOf(logits, logits.Max()), id);
            state.Append([id], logits);
        }

        var sampled = Generation.Generate(model, prompt, 3 * Time, new SamplingOptions { Temperature = 0 }).ToArray();
        Assert.Equal(greedy.TakeWhile(id => id != 28), sampled);
    }

    [Theory]
    [MemberData(nameof(Cells))]
    public void TheSameSeedDropsTheSame(string architecture)
    {
        var (inputs, targets) = (TestModels.RandomIds(2 * Time, 15), TestModels.RandomIds(2 * Time, 16));
        ModelConfig[] kinds = [Config(architecture) with { Dropout = 0.3 }, Config(architecture) with { Dropout = 0.3, VariationalDropout = true }, Config(architecture) with { RecurrentDropout = 0.3 }];
        var gradients = kinds.Select(config =>
        {
            using var model = TestModels.Create(config);
            var first = TestModels.GradientsOf(model, inputs, targets, 2, dropoutSeed: 7);
            Assert.Equal(MemoryMarshal.Cast<float, int>(first), MemoryMarshal.Cast<float, int>(TestModels.GradientsOf(model, inputs, targets, 2, dropoutSeed: 7)));
            Assert.NotEqual(first, TestModels.GradientsOf(model, inputs, targets, 2, dropoutSeed: 8));
            return first;
        }).ToArray();
        Assert.NotEqual(gradients[0], gradients[1]);
        Assert.NotEqual(gradients[1], gradients[2]);
    }

    [Theory]
    [MemberData(nameof(Cells))]
    public void ASequenceHasTheSameLossInEveryBatch(string architecture)
    {
        using var model = Create(architecture, 21, null, true, false);
        var (inputs, targets) = (TestModels.RandomIds(3 * Time, 17), TestModels.RandomIds(3 * Time, 18));
        var (sums, correct) = (new double[3], new long[3]);
        model.EvaluateSequences(inputs, targets, 3, sums, correct);
        for (var b = 0; b < 3; b++)
        {
            Assert.Equal((sums[b], correct[b]), model.Evaluate(inputs.AsSpan(Time * b, Time), targets.AsSpan(Time * b, Time), 1));
        }
    }

    private static ModelConfig Config(string architecture)
        => new() { Architecture = architecture, VocabularySize = Vocabulary, Layers = 2, Width = 16, Context = Time, EndOfTextId = 28, Tied = false };

    private static LanguageModel Create(string architecture, int width, int? embedding, bool bias, bool tied)
        => TestModels.Create(Config(architecture) with { Width = width, EmbeddingWidth = embedding, Bias = bias, Tied = tied }, scale: 2);

    private static Dictionary<string, double[]> Tensors(LanguageModel model)
        => model.Parameters.Views.ToDictionary(v => v.Name, v => model.Parameters.Values.Slice(v.Offset, v.Length).ToArray().Select(x => (double)x).ToArray());
}
