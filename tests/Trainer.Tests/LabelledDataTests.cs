using LlmPipeline.Models;
using LlmPipeline.Text;
using LlmPipeline.Trainer.Worker;

namespace LlmPipeline.Trainer.Tests;

public sealed class LabelledDataTests
{
    [Fact]
    public void AnEpochVisitsEveryDocumentOnceAndAnyStepIsASeek()
    {
        var split = TinyRun.LabelledDocuments(30, 1);
        var settings = TrainingSettings.From(TinyRun.Spec(s => (s.Training.BatchSize, s.Training.MicroBatchSize) = (6, 2)));
        var data = new LabelledData(split, null, TinyRun.Vocabulary, 0, settings);
        var seen = new List<string>();
        for (var step = 1; step <= 10; step++)
        {
            for (var microBatch = 0; microBatch < 3; microBatch++)
            {
                data.ReadMicroBatch(step, microBatch);
                seen.AddRange(Rows(data));
            }
        }

        string[] documents = [.. Enumerable.Range(0, 30).Select(i => Expected(split, i, settings.Context))];
        Assert.Equal(documents.Order(StringComparer.Ordinal), seen[..30].Order(StringComparer.Ordinal));
        Assert.Equal(documents.Order(StringComparer.Ordinal), seen[30..].Order(StringComparer.Ordinal));
        Assert.NotEqual(seen[..30], seen[30..]);

        var other = new LabelledData(split, null, TinyRun.Vocabulary, 0, settings);
        other.ReadMicroBatch(7, 1);
        Assert.Equal(seen[((6 * 3) + 1) * 2], Rows(other)[0]);
        Assert.Equal(6, data.PredictionsPerStep);
    }

    [Theory]
    [InlineData(2, "last")]
    [InlineData(3, "last")]
    [InlineData(2, "concat")]
    public async Task AnyNumberOfWorkersTrainsTheSameClassifier(int size, string pooling)
    {
        var spec = TinyRun.Spec(s => s.Model.Pooling = pooling);
        using var one = new LoopHarness(spec, 1, labelled: true);
        Assert.Equal([LoopOutcome.Finished], await one.RunAsync());
        Assert.True(one.Replicas[0].Model.GradientRanges(LoopHarness.SmallestRange).Count > 1, "Nothing goes out before the backward pass is over.");
        using var many = new LoopHarness(spec, size, labelled: true);
        Assert.All(await many.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        Assert.True(one.Sink.Curve[^1].Loss < one.Sink.Curve[0].Loss);
        Assert.Equal(one.Sink.Curve, many.Sink.Curve);
        Assert.All(many.Replicas, replica => Assert.True(TrainingLoopTests.SameState(one.Replicas[0], replica)));
    }

    // Ids and class of each row, without what it is padded with.
    private static List<string> Rows(LabelledData data)
    {
        var columns = data.Inputs.Length / data.Rows;
        var rows = new List<string>();
        for (var row = 0; row < data.Rows; row++)
        {
            var targets = data.Targets.Slice(row * columns, columns);
            var last = targets.IndexOfAnyExcept(LanguageModel.IgnoredTarget);
            Assert.Equal(columns - 1, targets.Count(LanguageModel.IgnoredTarget));
            rows.Add($"{string.Join(' ', data.Inputs.Slice(row * columns, last + 1).ToArray())} -> {targets[last]}");
        }

        return rows;
    }

    private static string Expected(TokenSplit split, int index, int context)
    {
        var (start, length) = split.Document(index);
        var ids = new int[length];
        split.Read(start, ids);
        return $"{string.Join(' ', length == 1 ? [0] : ids[..^1].Take(context))} -> {ids[^1] - TinyRun.Vocabulary}";
    }
}
