using LlmPipeline.Fakes;
using LlmPipeline.Runs.V1;
using LlmPipeline.Storage;
using LlmPipeline.Trainer.Worker;

namespace LlmPipeline.Trainer.Tests;

public sealed class GuardTests
{
    [Theory]
    [InlineData("exact")]
    [InlineData("plain")]
    public async Task AGradientOfOneWorkerThatIsNotFiniteIsSkippedAndItsWorkerNamed(string mode)
    {
        const int Bad = 7;
        var spec = TinyRun.Spec(s => s.Training.Exchange = new ExchangeSpec { Mode = mode });
        var harness = new LoopHarness(spec, 3);
        var (sound, broken) = (0f, false);
        harness.Wrap = (rank, data) => rank != 1 ? data : new FaultyData(data)
        {
            Reading = (step, _) =>
            {
                var values = harness.Replicas[1].Model.Parameters.Values;
                if (step == Bad && !broken)
                {
                    (sound, values[3], broken) = (values[3], float.NaN, true);
                }
                else if (step != Bad && broken)
                {
                    (values[3], broken) = (sound, false);
                }
            },
        };
        using (harness)
        {
            Assert.All(await harness.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
            var skipped = Assert.Single(harness.Sink.Events, e => e.Kind == RunEventKinds.StepSkipped);
            Assert.Contains(", of rank 1: ", skipped.Message);
            Assert.Equal("LOSS_NOT_FINITE", harness.Sink.Steps[Bad].Anomaly);
            Assert.All(harness.Sink.Steps.Values.Where(s => s.Step != Bad), s => Assert.True(double.IsFinite(s.TrainLoss)));
        }
    }

    private const long Bad = 38;

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public async Task AStepOnBadDataIsSkippedByAllAndTheRestGoesOn(int size)
    {
        using var clean = new LoopHarness(Spec("skip"), 1);
        await clean.RunAsync();
        using var harness = Harness(Spec("skip"), size);
        Assert.All(await harness.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        var skipped = Assert.Single(harness.Sink.Steps.Values, s => s.Anomaly.Length > 0);
        Assert.Equal((Bad, "LOSS_SPIKE"), (skipped.Step, skipped.Anomaly));
        Assert.Contains($"Step {Bad}", Assert.Single(harness.Sink.Events, e => e.Kind == "STEP_SKIPPED").Message);
        Assert.Equal(clean.Sink.Curve.Take((int)Bad - 1), harness.Sink.Curve.Take((int)Bad - 1));
        Assert.Equal(1, harness.Replicas[0].State.Guard.SkippedSteps);
        using var one = Harness(Spec("skip"), 1);
        await one.RunAsync();
        Assert.Equal(one.Sink.Curve, harness.Sink.Curve);
        Assert.All(harness.Replicas, replica => Assert.True(TrainingLoopTests.SameState(one.Replicas[0], replica)));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public async Task TrainingGoesBackToTheCheckpointAndPassesTheDataOver(int size)
    {
        using var folder = new TemporaryFolder();
        using var harness = Harness(Spec("rollback"), size, Store(folder, "many"));
        Assert.All(await harness.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        Assert.Equal([35L], harness.Sink.Rollbacks);
        var guard = harness.Replicas[0].State.Guard;
        Assert.Equal((1, Bad - 35, 0L), (guard.Rollbacks, guard.DataOffset, guard.SkippedSteps));
        Assert.Contains("step 35", Assert.Single(harness.Sink.Events, e => e.Kind == "ROLLED_BACK").Message);
        Assert.Equal(Enumerable.Range(1, 45).Select(s => (long)s), harness.Sink.Steps.Keys.Order());
        using var one = Harness(Spec("rollback"), 1, Store(folder, "one"));
        await one.RunAsync();
        Assert.Equal(one.Sink.Curve, harness.Sink.Curve);
        Assert.All(harness.Replicas, replica => Assert.True(TrainingLoopTests.SameState(one.Replicas[0], replica)));
    }

    [Theory]
    [InlineData("skip")]
    [InlineData("rollback")]
    public async Task ANewRankZeroTellsWhatTheLostOneMayNotHaveTold(string policy)
    {
        using var folder = new TemporaryFolder();
        using var harness = Harness(Spec(policy), 2, Store(folder, "two"));
        harness.AfterStep = step => harness.Controls[0].LeaveRequested = step >= 42;
        Assert.All(await harness.RunAsync(), outcome => Assert.Equal(LoopOutcome.Left, outcome));
        using var next = new LoopHarness(Spec(policy), 1, 2, [harness.Replicas[1]]) { Checkpoints = harness.Checkpoints };
        await next.RunAsync();
        var (kind, message) = Assert.Single(harness.Sink.Events);
        Assert.Equal((kind, message), Assert.Single(next.Sink.LastRemembered.Events.Select(e => (e.Kind, e.Message))));
        Assert.Equal(policy == "rollback" ? 35 : null, next.Sink.LastRemembered.RollbackStep);
    }

    [Fact]
    public async Task BrokenWeightsAreReplacedByThoseOfTheCheckpoint()
    {
        using var folder = new TemporaryFolder();
        using var harness = new LoopHarness(Spec("rollback"), 2) { Checkpoints = Store(folder, "two") };
        var isBroken = false;
        harness.AfterStep = step =>
        {
            if (step == 12 && !isBroken)
            {
                isBroken = true;
                harness.Replicas[0].Model.Parameters.Values[..100].Fill(float.NaN);
            }
        };
        Assert.All(await harness.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        Assert.Equal([10L], harness.Sink.Rollbacks);
        Assert.Contains("LOSS_NOT_FINITE", Assert.Single(harness.Sink.Events).Message);
        Assert.False(harness.Replicas[0].Model.Parameters.Values.ContainsAny(float.NaN, float.PositiveInfinity));
        Assert.True(TrainingLoopTests.SameState(harness.Replicas[0], harness.Replicas[1]));
    }

    [Theory]
    [InlineData("skip", 1)]
    [InlineData("rollback", 3)]
    public async Task AnUpdateThatBreaksTheWeightsIsUndoneWhereItsValidationShowsIt(string policy, int size)
    {
        using var folder = new TemporaryFolder();
        var spec = Spec(policy);
        spec.Training.ValidationInterval = 5;
        using var harness = new LoopHarness(spec, size) { Checkpoints = Store(folder, "any") };
        var broken = 0;
        harness.AfterStep = step =>
        {
            if (step == 15 && Interlocked.Exchange(ref broken, 1) == 0)
            {
                harness.Replicas[0].Model.Parameters.Values[..100].Fill(float.NaN);
            }
        };
        Assert.All(await harness.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        Assert.Equal([10L], harness.Sink.Rollbacks);
        Assert.Contains("from step 15 to the checkpoint of step 10 (LOSS_NOT_FINITE): the validation loss after it is not finite", Assert.Single(harness.Sink.Events).Message);
        Assert.All(harness.Sink.Steps.Values.Where(s => s.HasValidationLoss), s => Assert.True(double.IsFinite(s.ValidationLoss)));
        Assert.Equal(45, harness.Sink.Steps.Count);
        Assert.All(harness.Replicas, replica => Assert.True(TrainingLoopTests.SameState(harness.Replicas[0], replica)));
    }

    [Fact]
    public async Task NoCheckpointIsMadeOfBrokenWeights()
    {
        using var folder = new TemporaryFolder();
        using var harness = new LoopHarness(Spec("rollback"), 1) { Checkpoints = Store(folder, "any") };
        var isBroken = false;
        harness.AfterStep = step =>
        {
            if (step == 15 && !isBroken)
            {
                isBroken = true;
                harness.Replicas[0].Model.Parameters.Values[3] = float.PositiveInfinity;
            }
        };
        Assert.Equal([LoopOutcome.Finished], await harness.RunAsync());
        Assert.Equal([10L], harness.Sink.Rollbacks);
        Assert.Equal(1, harness.Replicas[0].State.Guard.Rollbacks);
        Assert.False(harness.Replicas[0].Model.Parameters.Values.ContainsAny(float.NaN, float.PositiveInfinity));
    }

    [Fact]
    public async Task WhereTimeIsUpAtTheBeginningThereIsNothingToFinish()
    {
        var spec = Spec("rollback");
        (spec.Training.Steps, spec.Training.MaxSeconds, spec.Training.MaxAnomalies, spec.Training.CheckpointInterval) = (1_000_000, 0.5, 1_000_000, 1_000_000);
        using var harness = new LoopHarness(spec, 1);
        harness.AfterStep = step =>
        {
            if (step > 0)
            {
                harness.Replicas[0].Model.Parameters.Values[..100].Fill(float.NaN);
            }
        };
        var fatal = Assert.IsType<FatalTrainingException>(Assert.Single(await harness.RunAsync()));
        Assert.Equal("LOSS_NOT_FINITE", fatal.Reason);
        Assert.StartsWith("Training went back to its beginning, and then training.max_seconds was over", fatal.Message);
        Assert.Equal(0, harness.Sink.FinishedCount);
    }

    [Fact]
    public async Task WithoutACheckpointTrainingBeginsAgain()
    {
        using var harness = new LoopHarness(Spec("rollback"), 1);
        var isBroken = false;
        harness.AfterStep = step =>
        {
            if (step == 3 && !isBroken)
            {
                isBroken = true;
                harness.Replicas[0].Model.Parameters.Values[..100].Fill(float.NaN);
            }
        };
        Assert.All(await harness.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        Assert.Equal([0L], harness.Sink.Rollbacks);
        Assert.Equal(4, harness.Replicas[0].State.Guard.DataOffset);
        Assert.Equal(45, harness.Sink.Steps.Count);
    }

    [Fact]
    public async Task ThePolicyToStopNamesTheStepAndTheCause()
    {
        using var harness = Harness(Spec("stop"), 2);
        Assert.All(await harness.RunAsync(), outcome =>
        {
            var fatal = Assert.IsType<FatalTrainingException>(outcome);
            Assert.Equal("LOSS_SPIKE", fatal.Reason);
            Assert.StartsWith($"Step {Bad}, the loss is ", fatal.Message);
            Assert.Contains("training.spike_deviation", fatal.Message);
        });
    }

    [Fact]
    public async Task TooManyAnomaliesStopTheRun()
    {
        var spec = Spec("skip");
        spec.Training.MaxAnomalies = 2;
        using var harness = new LoopHarness(spec, 1) { Wrap = (_, data) => new FaultyData(data) { IsWrong = step => step is 36 or 38 or 40 or 42 } };
        var fatal = Assert.IsType<FatalTrainingException>((await harness.RunAsync())[0]);
        Assert.StartsWith("Step 40", fatal.Message);
        Assert.Contains("training.max_anomalies", fatal.Message);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public async Task AMicroBatchThatDoesNotFitIsHalvedOnAllWorkers(int size)
    {
        // Only the last worker lacks memory, and for more than two sequences at once.
        using var harness = new LoopHarness(TinyRun.Spec(s => (s.Training.BatchSize, s.Training.MicroBatchSize) = (12, 4)), size)
        {
            Wrap = (rank, data) => rank == size - 1 ? new FaultyData(data) { MostRows = 2 } : data,
        };
        Assert.All(await harness.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        using var reference = new LoopHarness(TinyRun.Spec(s => (s.Training.BatchSize, s.Training.MicroBatchSize) = (12, 2)), 1);
        await reference.RunAsync();
        Assert.Equal(reference.Sink.Curve, harness.Sink.Curve);
        Assert.All(harness.Replicas, replica => Assert.Equal(2, replica.State.MicroBatchSize));
        Assert.All(harness.Sink.Steps.Values, step => Assert.Equal(2, step.MicroBatchSize));
        Assert.Contains("4 sequences", Assert.Single(harness.Sink.Events, e => e.Kind == "MICRO_BATCH_REDUCED").Message);
    }

    [Theory]
    [InlineData(1, 2, 2)]
    [InlineData(3, 2, 2)]
    [InlineData(3, 1, 1)]
    [InlineData(1, 8, 4)]
    public async Task AnEpochAfterKillsForMemoryHasSmallerMicroBatches(int size, int most, int expected)
    {
        using var harness = new LoopHarness(TinyRun.Spec(s => (s.Training.BatchSize, s.Training.MicroBatchSize) = (12, 4)), size) { MaxMicroBatchSize = most };
        Assert.All(await harness.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        using var reference = new LoopHarness(TinyRun.Spec(s => (s.Training.BatchSize, s.Training.MicroBatchSize) = (12, expected)), 1);
        await reference.RunAsync();
        Assert.Equal(reference.Sink.Curve, harness.Sink.Curve);
        Assert.All(harness.Sink.Steps.Values, step => Assert.Equal(expected, step.MicroBatchSize));
        Assert.Equal((int)Math.Log2(4.0 / expected), harness.Sink.Events.Count(e => e.Kind == "MICRO_BATCH_REDUCED"));
    }

    [Fact]
    public async Task MemoryThatDoesNotSufficeForOneSequenceEndsTheRun()
    {
        using var harness = new LoopHarness(TinyRun.Spec(), 1) { Wrap = (_, data) => new FaultyData(data) { MostRows = 0 } };
        Assert.True(OutOfMemory.Is(Assert.IsType<InvalidOperationException>((await harness.RunAsync())[0])));
    }

    [Fact]
    public void TheJudgeIsNotMovedByWhatItJudged()
    {
        var options = new GuardOptions();
        var state = new GuardState();
        for (var step = 0; step < GuardState.HistoryLength * 2; step++)
        {
            Assert.Null(state.Judge(options, 3 + (0.01 * (step % 7)), 1 + (0.1 * (step % 3))));
            state = state.Accept(3 + (0.01 * (step % 7)), 1 + (0.1 * (step % 3)));
        }

        Assert.Equal(GuardState.HistoryLength, state.Losses.Count);
        Assert.Null(state.Judge(options, 4.9, 50));
        Assert.Equal("LOSS_SPIKE", state.Judge(options, 5.2, 1)!.Reason);
        Assert.Equal("LOSS_SPIKE", state.Judge(options, double.PositiveInfinity, 1)!.Reason);
        Assert.Null(state.Judge(options with { SpikeDeviation = 0 }, 50, 1));
        Assert.Equal("GRADIENT_EXPLODED", state.Judge(options, 3, 2000)!.Reason);
        Assert.Null(state.Judge(options with { MaxNormFactor = 0 }, 3, 2000));
        Assert.Null(new GuardState().Judge(options, 1000, 1e9));
        Assert.Equal("LOSS_NOT_FINITE", new GuardState().Judge(options with { MaxNormFactor = 0 }, 3, double.PositiveInfinity)!.Reason);
        Assert.Equal("LOSS_NOT_FINITE", new GuardState().Judge(options, 3, double.NaN)!.Reason);
    }

    private static RunSpec Spec(string policy) => TinyRun.Spec(s =>
    {
        (s.Training.Steps, s.Training.CheckpointInterval, s.Training.ValidationInterval) = (45, 5, 20);
        (s.Training.OnAnomaly, s.Training.SpikeDeviation) = (policy, 2);
    });

    private static CheckpointStore Store(TemporaryFolder folder, string name) => new(new FolderBlobStore(Path.Combine(folder.Path, name)), "{}");

    private static LoopHarness Harness(RunSpec spec, int size, ICheckpointStore? store = null)
    {
        var harness = new LoopHarness(spec, size) { Wrap = (_, data) => new FaultyData(data) { IsWrong = step => step == Bad } };
        harness.Checkpoints = store ?? harness.Checkpoints;
        return harness;
    }
}
