using LlmPipeline.Evaluator.Measuring;
using LlmPipeline.Models;
using LlmPipeline.Text;
using TorchSharp;

namespace LlmPipeline.Evaluator.Tests;

public sealed class SplitLossTests
{
    [Theory]
    [InlineData(2)]
    [InlineData(24)]
    [InlineData(25)]
    [InlineData(26)]
    [InlineData(1000)]
    public async Task ResultDoesNotDependOnTheBatchSizeToTheLastBit(int tokens)
    {
        using var workshop = await Workshop.OpenAsync();
        using var model = await workshop.CreateNetworkAsync();
        var split = new ArraySplit(RandomIds(tokens, model.Config.VocabularySize));
        var one = SplitLoss.OfNetwork(model, split, null, CancellationToken.None, batch: 1);
        Assert.Equal(tokens - 1, one.TokenCount);
        foreach (var batch in (int[])[2, 3, 16, 64])
        {
            Assert.Equal(one, SplitLoss.OfNetwork(model, split, null, CancellationToken.None, batch));
        }
    }

    [Fact]
    public async Task EveryTokenButTheFirstIsPredictedOnceFromItsWindow()
    {
        using var workshop = await Workshop.OpenAsync();
        using var model = await workshop.CreateNetworkAsync();
        var ids = RandomIds(251, model.Config.VocabularySize);
        var quality = SplitLoss.OfNetwork(model, new ArraySplit(ids), null, CancellationToken.None);

        var (nats, correct) = Reference(model, ids);
        Assert.Equal(nats / 250, quality.Loss, 1e-6);
        Assert.Equal(Math.Exp(nats / 250), quality.Perplexity, 1e-4);
        Assert.Equal(correct / 250.0, quality.Accuracy, 1e-12);
        Assert.Equal(nats / Math.Log(2) / (2 * 251), quality.BitsPerByte, 1e-6);
    }

    [Fact]
    public async Task OfAMaskedNetworkTheMaskedTokensOfEachWindowAreMeasured()
    {
        using var workshop = await Workshop.OpenAsync();
        using var model = await workshop.CreateNetworkAsync(masked: true);
        var ids = RandomIds(251, model.Config.VocabularySize);
        var split = new ArraySplit(ids);
        var quality = SplitLoss.OfNetwork(model, split, null, CancellationToken.None);
        Assert.All((int[])[1, 3, 64], batch => Assert.Equal(quality, SplitLoss.OfNetwork(model, split, null, CancellationToken.None, batch)));

        var masking = Masking.Of(model.Config)!;
        var (nats, correct, count) = (0.0, 0, 0);
        for (var window = 0; window * 24 < ids.Length; window++)
        {
            int[] text = [.. ids.Skip(window * 24).Take(24)];
            var (inputs, targets) = (new int[text.Length], new int[text.Length]);
            masking.Apply(text, Masking.MeasuringSeed(window), inputs, targets);
            var (sum, right) = Softmax(model, inputs, targets);
            (nats, correct, count) = (nats + sum, correct + right, count + targets.Count(t => t >= 0));
        }

        Assert.Equal((10 * 4) + 2, count); // 15 % of 24, and of the 11 that are left
        Assert.Equal(count, quality.TokenCount);
        Assert.Equal(nats / count, quality.Loss, 1e-6);
        Assert.Equal(Math.Exp(nats / count), quality.Perplexity, 1e-4);
        Assert.Equal((double)correct / count, quality.Accuracy, 1e-12);
        Assert.Equal(("masked", 0), (quality.Objective, quality.BitsPerByte));
    }

    [Fact]
    public async Task ABrokenNetworkIsNamedAsSuch()
    {
        using var workshop = await Workshop.OpenAsync();
        using var model = await workshop.CreateNetworkAsync();
        model.Parameters.Values.Fill(float.NaN);
        var error = Assert.Throws<EvaluationException>(() => SplitLoss.OfNetwork(model, new ArraySplit(RandomIds(60, model.Config.VocabularySize)), null, CancellationToken.None));
        Assert.Equal("LOSS_NOT_FINITE", error.Reason);
    }

    [Fact]
    public async Task ASplitOfOneTokenHasNothingToPredict()
    {
        using var workshop = await Workshop.OpenAsync();
        using var model = await workshop.CreateNetworkAsync();
        var error = Assert.Throws<EvaluationException>(() => SplitLoss.OfNetwork(model, new ArraySplit([1]), null, CancellationToken.None));
        Assert.Equal("INVALID_SPEC", error.Reason);
        Assert.Contains("at least 2", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task CancellationStopsTheMeasurement()
    {
        using var workshop = await Workshop.OpenAsync();
        using var model = await workshop.CreateNetworkAsync();
        var split = new ArraySplit(RandomIds(60, model.Config.VocabularySize));
        Assert.Throws<OperationCanceledException>(() => SplitLoss.OfNetwork(model, split, null, new CancellationToken(canceled: true)));
    }

    // Softmax in float64 over the logits of each window.
    private static (double Nats, int Correct) Reference(LanguageModel model, int[] ids)
    {
        var context = model.Config.Context;
        var nats = 0.0;
        var correct = 0;
        for (var begin = 0; begin + 1 < ids.Length; begin += context)
        {
            var length = Math.Min(context, ids.Length - 1 - begin);
            var (sum, right) = Softmax(model, [.. ids.Skip(begin).Take(length)], [.. ids.Skip(begin + 1).Take(length)]);
            (nats, correct) = (nats + sum, correct + right);
        }

        return (nats, correct);
    }

    private static (double Nats, int Correct) Softmax(LanguageModel model, int[] inputs, int[] targets)
    {
        using var input = torch.tensor(inputs.Select(i => (long)i).ToArray()).reshape(1, inputs.Length);
        using var output = model.Forward(input);
        var (nats, correct) = (0.0, 0);
        foreach (var (logits, target) in output.data<float>().ToArray().Chunk(model.Config.VocabularySize).Zip(targets).Where(t => t.Second >= 0))
        {
            var row = logits.Select(l => (double)l).ToArray();
            nats += Math.Log(row.Sum(l => Math.Exp(l - row.Max()))) + row.Max() - row[target];
            correct += Array.IndexOf(row, row.Max()) == target ? 1 : 0;
        }

        return (nats, correct);
    }

    private static int[] RandomIds(int count, int vocabulary)
    {
        var random = new Random(3);
        return [.. Enumerable.Range(0, count).Select(_ => random.Next(vocabulary))];
    }

    private sealed class ArraySplit(int[] ids) : TokenSplit
    {
        public override long TokenCount => ids.Length;

        public override long ByteCount => 2 * ids.Length;

        public override long DocumentCount => 1;

        public override void Read(long position, Span<int> destination) => ids.AsSpan((int)position, destination.Length).CopyTo(destination);
    }
}
