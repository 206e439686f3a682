using LlmPipeline.Evaluator.Measuring;
using LlmPipeline.Models;
using LlmPipeline.Text;
using TorchSharp;

namespace LlmPipeline.Evaluator.Tests;

public sealed class SplitLossTests
{
    private static LanguageModel Model()
    {
        TorchRuntime.Initialize();
        return LanguageModel.Create(new ModelConfig { VocabularySize = 50, Layers = 2, Heads = 2, Width = 32, Context = 16 }, 3, torch.CPU);
    }

    private static ArraySplit Split(int count)
    {
        var random = new Random(4);
        return new ArraySplit([.. Enumerable.Range(0, count).Select(_ => random.Next(50))]);
    }

    [Fact]
    public void TheResultDoesNotDependOnTheBatchSize()
    {
        using var model = Model();
        var split = Split(1000);
        var one = SplitLoss.OfNetwork(model, split, null, CancellationToken.None, batch: 1);
        foreach (var batch in new[] { 2, 7, 16, 61, 100 })
        {
            Assert.Equal(one, SplitLoss.OfNetwork(model, split, null, CancellationToken.None, batch));
        }
    }

    [Theory]
    [InlineData(2)]
    [InlineData(16)]
    [InlineData(17)]
    [InlineData(18)]
    [InlineData(100)]
    public void EveryTokenButTheFirstIsPredictedOnce(int count)
    {
        using var model = Model();
        var split = Split(count);
        double lossSum = 0;
        long correct = 0;
        var windows = 0;
        for (var position = 0; position < count - 1; position += 16, windows++)
        {
            var ids = new int[Math.Min(17, count - position)];
            split.Read(position, ids);
            var (loss, right) = model.Evaluate(ids.AsSpan(0, ids.Length - 1), ids.AsSpan(1), 1);
            (lossSum, correct) = (lossSum + loss, correct + right);
        }

        var quality = SplitLoss.OfNetwork(model, split, null, CancellationToken.None, batch: 3);
        Assert.Equal(count - 1, quality.TokenCount);
        Assert.Equal(lossSum / (count - 1), quality.Loss, 1e-12);
        Assert.Equal((double)correct / (count - 1), quality.Accuracy, 1e-12);
    }

    [Fact]
    public void ASplitOfOneTokenIsAnError()
    {
        using var model = Model();
        Assert.Contains("at least 2", Assert.Throws<InvalidDataException>(() => SplitLoss.OfNetwork(model, Split(1), null, CancellationToken.None)).Message, StringComparison.Ordinal);
    }

    private sealed class ArraySplit(int[] ids) : TokenSplit
    {
        public override long TokenCount => ids.Length;

        public override long ByteCount => ids.Length;

        public override long DocumentCount => 1;

        public override void Read(long position, Span<int> destination) => ids.AsSpan((int)position, destination.Length).CopyTo(destination);
    }
}
