using System.Text.Json.Nodes;
using LlmPipeline.Storage;
using TorchSharp;

namespace LlmPipeline.Models.Tests;

/// <summary>What a classification head reads.</summary>
public sealed class PoolingTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("pooling-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    public static TheoryData<string, Pooling> Kinds =>
        [.. Networks.Keys.SelectMany(_ => new[] { Pooling.Mean, Pooling.Max, Pooling.Concat }, (kind, pooling) => new TheoryDataRow<string, Pooling>(kind, pooling))];

    private static Dictionary<string, ModelConfig> Networks { get; } = new()
    {
        ["gpt2"] = TestModels.Tiny,
        ["masked llama"] = TestModels.TinyLlama with { Objective = Objective.Masked, MaskTokenId = 27 },
        ["rnn"] = TestModels.Tiny with { Architecture = "rnn", Heads = 0 },
        ["lstm"] = TestModels.Tiny with { Architecture = "lstm", Heads = 0, EmbeddingWidth = 12 },
        ["gru"] = TestModels.Tiny with { Architecture = "gru", Heads = 0, Tied = false },
        ["feed-forward"] = TestModels.Tiny with { Architecture = "feed-forward", Heads = 0, Window = 3 },
    };

    // The same network with a head that hands the hidden states out tells what is pooled.
    [Theory]
    [MemberData(nameof(Kinds))]
    public void TheHeadReadsThePooledStates(string kind, Pooling pooling)
    {
        using var model = Create(kind, pooling);
        int[] document = TestModels.RandomIds(7, 5);
        var states = States(model, document);
        double Of(Func<double[], double> pool, int c) => pool([.. states.Select(s => (double)s[c])]);
        double[] Pooled(Func<double[], double> pool) => [.. Enumerable.Range(0, 16).Select(c => Of(pool, c))];
        double[] mean = Pooled(v => v.Average()), max = Pooled(v => v.Max()), last = Pooled(v => v[^1]);
        double[] read = pooling switch { Pooling.Mean => mean, Pooling.Max => max, _ => [.. last, .. max, .. mean] };
        var score = model.Parameters.ValuesOf("score.weight").ToArray();
        Assert.Equal(3 * read.Length, score.Length);
        var logits = Enumerable.Range(0, 3).Select(k => read.Select((x, c) => x * score[(k * read.Length) + c]).Sum()).ToArray();
        var log = Math.Log(logits.Sum(Math.Exp));
        var found = new double[3];
        model.Classify(document, found);
        Assert.All(found.Zip(logits), pair => Assert.Equal(pair.Second - log, pair.First, 1e-4));
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void ADocumentIsReadAloneInWhateverBatch(string kind, Pooling pooling)
    {
        using var model = Create(kind, pooling);
        int[] document = [5, 3, 8, 1], longer = TestModels.RandomIds(9, 4);
        double[] first = new double[3], second = new double[3];
        model.Classify(document, first);
        model.Classify(longer, second);
        int[] inputs = [.. document, 28, 28, 28, 28, 28, .. longer], targets = [.. Enumerable.Repeat(LanguageModel.IgnoredTarget, 18)];
        (targets[3], targets[17]) = (1, 0);
        var (sums, correct) = (new double[2], new long[2]);
        model.EvaluateSequences(inputs, targets, 2, sums, correct);
        Assert.Equal(-first[1], sums[0], 1e-4);
        Assert.Equal(-second[0], sums[1], 1e-4);

        // The loss that is trained on is the same one, and what fills the shorter document up is not learned from.
        var gradients = TestModels.GradientsOf(model, inputs, targets, 2, 0.5f);
        Assert.Equal((sums[0] + sums[1]) / 2, model.AccumulateGradients(inputs, targets, 2, 0.5f, 0), 1e-4);
        (inputs[6], inputs[8]) = (2, 17);
        Assert.Equal(gradients, TestModels.GradientsOf(model, inputs, targets, 2, 0.5f));
        inputs[0] = 6;
        Assert.NotEqual(gradients, TestModels.GradientsOf(model, inputs, targets, 2, 0.5f));
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void GradientsAreThoseOfTheLoss(string kind, Pooling pooling)
    {
        using var model = Create(kind, pooling);
        int[] inputs = [5, 3, 8, 1, 28, 28, 7, 7, 2, 9, 4, 11], targets = [.. Enumerable.Repeat(LanguageModel.IgnoredTarget, 12)];
        (targets[3], targets[11]) = (2, 0);
        var gradients = TestModels.GradientsOf(model, inputs, targets, 2, 1f);
        var random = new Random(3);
        foreach (var view in model.Parameters.Views)
        {
            // Along one direction in each tensor: the change of the loss is the gradient times the step.
            float[] direction = [.. Enumerable.Range(0, view.Length).Select(_ => random.NextSingle() - 0.5f)];
            var norm = MathF.Sqrt(direction.Sum(d => d * d));
            direction = [.. direction.Select(d => d / norm)];
            var expected = direction.Select((d, i) => (double)d * gradients[view.Offset + i]).Sum();
            double At(float step)
            {
                var values = model.Parameters.Values.Slice(view.Offset, view.Length);
                var kept = values.ToArray();
                for (var i = 0; i < values.Length; i++)
                {
                    values[i] += step * direction[i];
                }

                model.Parameters.UploadValues();
                var loss = model.Evaluate(inputs, targets, 2).LossSum;
                kept.CopyTo(model.Parameters.Values.Slice(view.Offset, view.Length));
                model.Parameters.UploadValues();
                return loss;
            }

            const float Step = 1e-4f;
            var found = (At(Step) - At(-Step)) / (2 * Step);
            Assert.True(Math.Abs(found - expected) < 5e-3 + (0.02 * Math.Abs(expected)), $"{view.Name}: {expected} by the gradient, {found} by the loss");
        }
    }

    // The gradient of a class's weights is its error times what is read: a channel that is dropped has none.
    [Theory]
    [InlineData("lstm")]
    [InlineData("feed-forward")]
    [InlineData("gpt2")]
    public void DropoutIsBehindThePooling(string kind)
    {
        using var model = LanguageModel.Create(Networks[kind] with { Labels = ["a", "b", "c"], Pooling = Pooling.Mean, Dropout = 0.5 }, 1, torch.CPU);
        int[] targets = [.. Enumerable.Repeat(LanguageModel.IgnoredTarget, 11), 1];
        var score = model.Parameters.Views.Single(v => v.Name == "score.weight");
        var dropped = Enumerable.Range(0, 20).Sum(seed => TestModels.GradientsOf(model, TestModels.RandomIds(12, seed), targets, 1, 1f, (ulong)seed).AsSpan(score.Offset, 16).Count(0f));
        Assert.InRange(dropped, 100, 220);
    }

    [Fact]
    public async Task FilesSayWhatIsRead()
    {
        using var model = Create("gpt2", Pooling.Concat);
        var folder = await WriteAsync(model);
        var path = Path.Combine(folder, "config.json");
        var config = JsonNode.Parse(await File.ReadAllTextAsync(path))!;
        Assert.Equal(("concat", "GPT2PooledClassifier"), ((string?)config["classifier_pooling"], (string?)config["architectures"]![0]));
        using (var file = SafetensorsFile.Open(Path.Combine(folder, "model.safetensors")))
        {
            Assert.Equal([3, 48], file.Tensors["score.weight"].Shape);
        }

        using var loaded = ModelDirectory.LoadNetwork(folder, torch.CPU);
        Assert.Equal(Pooling.Concat, loaded.Config.Pooling);
        double[] before = new double[3], after = new double[3];
        model.Classify([3, 1, 4, 1, 5], before);
        loaded.Classify([3, 1, 4, 1, 5], after);
        Assert.Equal(before, after);

        // A base's head is kept where it reads the same.
        using var same = BaseModel.Load(folder, loaded.Config, 5, torch.CPU);
        Assert.True(same.Parameters.ValuesOf("score.weight").SequenceEqual(loaded.Parameters.ValuesOf("score.weight")));
        using var other = BaseModel.Load(folder, loaded.Config with { Pooling = Pooling.Mean }, 5, torch.CPU);
        Assert.Equal(48, other.Parameters.ValuesOf("score.weight").Length);
        Assert.True(other.Parameters.ValuesOf("transformer.wte.weight").SequenceEqual(loaded.Parameters.ValuesOf("transformer.wte.weight")));

        config["classifier_pooling"] = "median";
        await File.WriteAllTextAsync(path, config.ToJsonString());
        var wrong = Assert.Throws<InvalidDataException>(() => ModelDirectory.ReadConfig(folder));
        Assert.Contains("'median'; there is last, mean, max, concat", wrong.Message, StringComparison.Ordinal);
        Assert.Contains(path, wrong.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void WhatMakesNoSenseIsRefused()
    {
        Assert.Contains("there are no Labels", Assert.Throws<ArgumentException>(() => (TestModels.Tiny with { Pooling = Pooling.Mean }).Validate()).Message, StringComparison.Ordinal);
        using var model = Create("gpt2", Pooling.Mean);
        Assert.Contains("Classify with it", Assert.Throws<InvalidOperationException>(() => TestModels.ForwardLogits(model, [1, 2], 1)).Message, StringComparison.Ordinal);
    }

    private static LanguageModel Create(string kind, Pooling pooling)
    {
        var model = TestModels.Create(Networks[kind] with { Labels = ["a", "b", "c"], Pooling = pooling });
        model.Parameters.UploadValues();
        return model;
    }

    // (T)(C)
    private static float[][] States(LanguageModel model, int[] document)
    {
        using var open = LanguageModel.Create(model.Config with { Pooling = Pooling.Last, Labels = [.. Enumerable.Range(0, 16).Select(c => $"channel {c}")] }, 1, torch.CPU);
        foreach (var view in open.Parameters.Views)
        {
            if (view.Name != "score.weight")
            {
                model.Parameters.ValuesOf(view.Name).CopyTo(open.Parameters.ValuesOf(view.Name));
                continue;
            }

            var score = open.Parameters.ValuesOf(view.Name);
            for (var i = 0; i < score.Length; i++)
            {
                score[i] = i % 17 == 0 ? 1 : 0;
            }
        }

        open.Parameters.UploadValues();
        return [.. TestModels.ForwardLogits(open, document, 1).Chunk(16)];
    }

    private async Task<string> WriteAsync(LanguageModel model)
    {
        var store = BlobStore.Open($"folder={_folder}");
        var directory = store.CreateDirectory("models/pooled");
        await ModelDirectory.WriteAsync(directory, model, "{}");
        await directory.CommitAsync();
        return Path.Combine(_folder, "models", "pooled");
    }
}
