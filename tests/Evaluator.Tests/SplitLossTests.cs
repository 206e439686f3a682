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
        var (context, vocabulary) = (model.Config.Context, model.Config.VocabularySize);
        var nats = 0.0;
        var correct = 0;
        for (var begin = 0; begin + 1 < ids.Length; begin += context)
        {
            var length = Math.Min(context, ids.Length - 1 - begin);
            using var input = torch.tensor(ids.Skip(begin).Take(length).Select(i => (long)i).ToArray()).reshape(1, length);
            using var output = model.Forward(input);
            var logits = output.data<float>().ToArray();
            for (var t = 0; t < length; t++)
            {
                var row = logits.Skip(t * vocabulary).Take(vocabulary).Select(l => (double)l).ToArray();
                var target = ids[begin + t + 1];
                nats += Math.Log(row.Sum(l => Math.Exp(l - row.Max()))) + row.Max() - row[target];
                correct += Array.IndexOf(row, row.Max()) == target ? 1 : 0;
            }
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
