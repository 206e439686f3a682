using LlmPipeline.Fakes;
using LlmPipeline.Runs.V1;
using LlmPipeline.Storage;
using LlmPipeline.Trainer.Worker;

namespace LlmPipeline.Trainer.Tests;

/// <summary>A run that is killed anywhere, and goes on from its checkpoint, gives the bits of one that is not.</summary>
public sealed class ExactResumeTests
{
    private const int Rounds = 6;

    public static TheoryData<string> Kinds => ["adamw", "adam with a time limit of patience", "sgd", "rmsprop", "bad data", "little memory", "gru"];

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task KilledAtRandomPlacesItGivesTheSameCurveAndState(string kind)
    {
        var (spec, wrap) = Of(kind);
        using var folder = new TemporaryFolder();
        using var reference = new LoopHarness(spec, 1) { Checkpoints = new CheckpointStore(new FolderBlobStore(Path.Combine(folder.Path, "reference")), "{}"), Wrap = (_, data) => wrap(data, null) };
        Assert.Equal([LoopOutcome.Finished], await reference.RunAsync());
        using var loaded = TinyRun.NewReplica(spec);
        loaded.State = reference.Checkpoints.Load(loaded, reference.Checkpoints.NewestIntact("runs/tiny", long.MaxValue));
        Assert.Equal(reference.Replicas[0].Events, loaded.Events);
        Assert.Equal(kind is "bad data" or "little memory", loaded.Events.Count > 0);

        var random = new Random(kind.Length);
        for (var round = 0; round < Rounds; round++)
        {
            var store = new FolderBlobStore(Path.Combine(folder.Path, $"round-{round}"));
            var curve = new SortedDictionary<long, StepMetrics>();
            Replica? last = null;
            for (var kills = 3; last is null; kills--)
            {
                // Killed while the n-th micro-batch from here on is read: in the middle of an epoch, and of accumulation.
                var left = kills > 0 ? random.Next(1, 45) : int.MaxValue;
                var replica = TinyRun.NewReplica(spec);
                var checkpoints = new CheckpointStore(store, "{}");
                var newest = checkpoints.NewestIntact("runs/tiny", long.MaxValue);
                if (newest > 0)
                {
                    replica.State = checkpoints.Load(replica, newest);
                }

                // The coordinator is gone as well, with what it had not written of the steps before the checkpoint.
                var recorded = random.NextInt64(newest + 1);
                foreach (var beyond in curve.Keys.Where(s => s > recorded).ToList())
                {
                    curve.Remove(beyond);
                }

                using var harness = new LoopHarness(spec, 1, replicas: [replica])
                {
                    Checkpoints = checkpoints,
                    Wrap = (_, data) => wrap(data, () => left-- > 0 ? 0 : throw new KilledException()),
                };
                var outcome = (await harness.RunAsync())[0];
                foreach (var (step, metrics) in harness.Sink.Steps)
                {
                    curve[step] = metrics;
                }

                if (outcome is LoopOutcome.Finished)
                {
                    Assert.True(TrainingLoopTests.SameState(reference.Replicas[0], replica));
                    Assert.Equal(Comparable(reference.Replicas[0].State), Comparable(replica.State));
                    last = replica;
                }
                else
                {
                    Assert.True(outcome is KilledException, $"{kind}: {outcome}");
                }
            }

            Assert.Equal(reference.Sink.Curve, curve.Values.Select(LoopHarness.RecordingSink.Comparable));
        }
    }

    [Theory]
    [InlineData("no JSON")]
    [InlineData("null")]
    [InlineData("[]")]
    [InlineData("{}")]
    [InlineData("""{"metrics":[{"step":"x"}],"events":[]}""")]
    [InlineData("""{"metrics":[],"events":[{"event":{}}]}""")]
    [InlineData("""{"metrics":7,"events":[]}""")]
    public void AHistoryThatIsNoneIsRefusedByName(string json) =>
        Assert.Contains("00000004/history.json", Assert.Throws<InvalidDataException>(() => StepHistory.Parse(json, "00000004/history.json")).Message, StringComparison.Ordinal);

    [Fact]
    public void AHistoryOfALaterVersionLoads() =>
        Assert.Equal(7, Assert.Single(StepHistory.Parse("""{"metrics":[{"step":"7","later":1}],"events":[],"later":2}""", "history.json").Metrics).Step);

    private static (RunSpec Spec, Func<ITrainingData, Func<int>?, ITrainingData> Wrap) Of(string kind)
    {
        var spec = TinyRun.Spec(s =>
        {
            (s.Training.Steps, s.Training.BatchSize, s.Training.MicroBatchSize) = (20, 6, 2);
            (s.Training.CheckpointInterval, s.Training.ValidationInterval) = (3, 4);
            switch (kind)
            {
                case "adam with a time limit of patience":
                    (s.Optimizer.Kind, s.Training.Patience, s.Training.MinImprovement) = ("adam", 2, 0.05);
                    break;
                case "sgd":
                    (s.Optimizer.Kind, s.Optimizer.Momentum, s.Optimizer.Nesterov, s.Optimizer.LearningRate) = ("sgd", 0.9, true, 0.1);
                    break;
                case "rmsprop":
                    (s.Optimizer.Kind, s.Optimizer.Alpha, s.Optimizer.Centered, s.Optimizer.Momentum) = ("rmsprop", 0.9, true, 0.5);
                    break;
                case "bad data":
                    (s.Training.Steps, s.Training.SpikeDeviation, s.Training.CheckpointInterval) = (45, 2, 5);
                    break;
                case "gru":
                    TinyRun.OtherModel("gru")(s);
                    break;
            }
        });
        return (spec, (data, reading) => new FaultyData(data)
        {
            Reading = (_, _) => reading?.Invoke(),
            IsWrong = step => kind == "bad data" && step is 38 or 41,
            MostRows = kind == "little memory" ? 1 : int.MaxValue,
        });
    }

    private static TrainerState Comparable(TrainerState state) => state with { TrainSeconds = 0, LastMetrics = null };

    private sealed class KilledException : Exception;
}
