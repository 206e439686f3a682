using System.Runtime.InteropServices;
using LlmPipeline.Runs.V1;
using LlmPipeline.Trainer.Collectives;
using LlmPipeline.Trainer.Worker;

namespace LlmPipeline.Trainer.Tests;

public sealed class TrainingLoopTests
{
    [Theory]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(5)]
    public async Task AnyNumberOfWorkersGivesTheSameCurveAndWeights(int size)
    {
        using var one = new LoopHarness(TinyRun.Spec(), 1);
        Assert.Equal([LoopOutcome.Finished], await one.RunAsync());
        using var many = new LoopHarness(TinyRun.Spec(), size);
        Assert.All(await many.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));

        Assert.Equal(12, one.Sink.Curve.Length);
        Assert.Equal([5L, 10, 12], one.Sink.Curve.Where(c => c.Validation >= 0).Select(c => c.Step));
        Assert.True(one.Sink.Curve[^1].Loss < one.Sink.Curve[0].Loss);
        Assert.Equal(one.Sink.Curve, many.Sink.Curve);
        Assert.All(many.Replicas, replica => Assert.True(SameState(one.Replicas[0], replica)));
        Assert.Equal([4L, 8, 12], many.Sink.Checkpoints.Select(c => Storage.ResourceName.ParseCheckpoint(c.Name).Step));
        Assert.Equal(1, many.Sink.FinishedCount);
    }

    [Theory]
    [InlineData("llama")]
    [InlineData("masked-gpt2")]
    [InlineData("masked-llama")]
    [InlineData("rnn")]
    [InlineData("lstm")]
    [InlineData("gru")]
    [InlineData("feed-forward")]
    public async Task AnyNumberOfWorkersGivesTheSameCurveForEveryModel(string kind)
    {
        using var one = new LoopHarness(TinyRun.Spec(TinyRun.OtherModel(kind)), 1);
        Assert.Equal([LoopOutcome.Finished], await one.RunAsync());
        Assert.True(one.Sink.Curve[^1].Loss < one.Sink.Curve[0].Loss);
        for (var size = 2; size <= 3; size++)
        {
            using var many = new LoopHarness(TinyRun.Spec(TinyRun.OtherModel(kind)), size);
            Assert.All(await many.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
            Assert.Equal(one.Sink.Curve, many.Sink.Curve);
            Assert.All(many.Replicas, replica => Assert.True(SameState(one.Replicas[0], replica)));
        }
    }

    [Fact]
    public async Task A16BitWireKeepsExactRunsTheSameOnAnyNumberOfWorkers()
    {
        var spec = TinyRun.Spec(s => s.Training.Exchange = new ExchangeSpec { Wire = "bf16" });
        using var one = new LoopHarness(spec, 1);
        await one.RunAsync();
        for (var size = 2; size <= 4; size++)
        {
            using var many = new LoopHarness(spec, size);
            Assert.All(await many.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
            Assert.Equal(one.Sink.Curve, many.Sink.Curve);
        }
    }

    [Theory]
    [InlineData("fp32", 1e-4)]
    [InlineData("bf16", 2e-2)]
    public async Task PlainRunsFollowTheExactOneAndAllWorkersHoldTheSameWeights(string wire, double tolerance)
    {
        using var exact = new LoopHarness(TinyRun.Spec(), 1);
        await exact.RunAsync();
        for (var size = 1; size <= 3; size++)
        {
            using var plain = new LoopHarness(TinyRun.Spec(s => s.Training.Exchange = new ExchangeSpec { Mode = "plain", Wire = wire }), size);
            Assert.All(await plain.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
            Assert.All(plain.Replicas, replica => Assert.True(SameState(plain.Replicas[0], replica)));
            Assert.All(exact.Sink.Curve.Zip(plain.Sink.Curve), pair => Assert.Equal(pair.First.Loss, pair.Second.Loss, tolerance));
        }
    }

    [Fact]
    public async Task WhatIsHiddenOfTheExchangeIsReportedAndNoPhaseCountsItTwice()
    {
        using var harness = new LoopHarness(TinyRun.Spec(), 2);
        await harness.RunAsync();
        Assert.All(harness.Sink.Steps.Values, step =>
        {
            Assert.True(step.HasHiddenExchangeSeconds && step.HiddenExchangeSeconds >= 0 && step.HiddenExchangeSeconds <= step.StepSeconds);
            var phases = step.Phases;
            Assert.Equal(step.StepSeconds, phases.Data + phases.ForwardBackward + phases.Exchange + phases.Optimizer + phases.Validation + phases.Checkpoint + phases.Other, 1e-5);
        });
    }

    // With two workers, one of which has nothing to compute, the gradient goes through integers and around the ring.
    [Fact]
    public async Task ALoneWorkerWithOneMicroBatchNeedsNoIntegersForTheSameBits()
    {
        var spec = TinyRun.Spec(s => s.Training.MicroBatchSize = s.Training.BatchSize);
        using var one = new LoopHarness(spec, 1);
        Assert.Equal([LoopOutcome.Finished], await one.RunAsync());
        using var two = new LoopHarness(spec, 2);
        Assert.All(await two.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        Assert.Equal(one.Sink.Curve, two.Sink.Curve);
        Assert.All(two.Replicas, replica => Assert.True(SameState(one.Replicas[0], replica)));
    }

    [Fact]
    public async Task ABrokenStepIsRepeatedWithTheSameResult()
    {
        using var reference = new LoopHarness(TinyRun.Spec(), 1);
        await reference.RunAsync();
        for (var chunk = 2; chunk < 40; chunk += 3)
        {
            using var broken = new LoopHarness(TinyRun.Spec(), 3);
            broken.Rings[1].BreakAtChunk = chunk;
            var outcomes = await broken.RunAsync();
            Assert.All(outcomes, outcome => Assert.IsType<RingBrokenException>(outcome));

            // Rank 1 is lost; the survivors may be one step apart.
            using var survivors = new LoopHarness(TinyRun.Spec(), 2, 2, [broken.Replicas[2], broken.Replicas[0]]);
            foreach (var (step, metrics) in broken.Sink.Steps)
            {
                survivors.Sink.Steps[step] = metrics;
            }

            Assert.All(await survivors.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
            Assert.Equal(reference.Sink.Curve, survivors.Sink.Curve);
            Assert.All(survivors.Replicas, replica => Assert.True(SameState(reference.Replicas[0], replica)));
        }
    }

    [Fact]
    public async Task ANewRankZeroReportsWhatTheLostOneTookWithIt()
    {
        using var reference = new LoopHarness(TinyRun.Spec(), 1);
        await reference.RunAsync();
        var apart = 0;
        // Whether they are depends on threads, too.
        for (var attempt = 0; attempt < 42 || (apart == 0 && attempt < 420); attempt++)
        {
            using var broken = new LoopHarness(TinyRun.Spec(), 3);
            broken.Rings[0].BreakAtChunk = 2 + (attempt % 42);
            Assert.All(await broken.RunAsync(), outcome => Assert.IsType<RingBrokenException>(outcome));
            apart += broken.Replicas[1].State.Step != broken.Replicas[2].State.Step ? 1 : 0;

            // No report of rank 0 has arrived. Whoever is behind is the new rank 0, and copies the last step.
            using var survivors = new LoopHarness(TinyRun.Spec(), 2, 2, [.. broken.Replicas[1..].OrderBy(r => r.State.Step)]);
            Assert.All(await survivors.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
            Assert.Equal(reference.Sink.Curve, survivors.Sink.Curve);
        }

        Assert.True(apart > 0, "In no case were the survivors at different steps.");
    }

    [Fact]
    public async Task AnEmptyNewcomerCopiesTheStateAndChangesNothing()
    {
        using var reference = new LoopHarness(TinyRun.Spec(), 1);
        await reference.RunAsync();

        using var first = new LoopHarness(TinyRun.Spec(), 2);
        first.AfterStep = step => first.Controls[1].LeaveRequested = step >= 6;
        Assert.All(await first.RunAsync(), outcome => Assert.Equal(LoopOutcome.Left, outcome));
        Assert.Equal(first.Replicas[0].State.Step, first.Replicas[1].State.Step);
        Assert.InRange(first.Replicas[0].State.Step, 6, 8);

        var newcomer = TinyRun.NewReplica(TinyRun.Spec());
        newcomer.State = newcomer.State with { Step = -1 };
        using var second = new LoopHarness(TinyRun.Spec(), 3, 2, [newcomer, first.Replicas[0], first.Replicas[1]]);
        Assert.All(await second.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        foreach (var metrics in first.Sink.Steps)
        {
            second.Sink.Steps.TryAdd(metrics.Key, metrics.Value);
        }

        Assert.Equal(reference.Sink.Curve, second.Sink.Curve);
        Assert.All(second.Replicas, replica => Assert.True(SameState(reference.Replicas[0], replica)));
    }

    [Fact]
    public async Task ACancellationStopsAllAfterTheSameStepWithACheckpoint()
    {
        using var harness = new LoopHarness(TinyRun.Spec(s => s.Training.Steps = 100_000), 3);
        harness.AfterStep = step => harness.Controls[2].StopRequested = step >= 3;
        Assert.All(await harness.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        var step = harness.Replicas[0].State.Step;
        Assert.InRange(step, 3, 6);
        Assert.All(harness.Replicas, replica => Assert.Equal(step, replica.State.Step));
        Assert.Equal($"runs/tiny/checkpoints/{step:D8}", harness.Sink.Checkpoints.Last().Name);
        Assert.NotNull(harness.Sink.Checkpoints.Last().Loss);
        Assert.Equal(1, harness.Sink.FinishedCount);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public async Task AWorkerWhoseStepCannotBeWaitedForLeavesInTheMiddleOfIt(int size)
    {
        // Each has two micro-batches of a step, whatever the speed: before the second one it looks whether it is to exit.
        using var harness = new LoopHarness(TinyRun.Spec(s => s.Training.Rebalance = false), size);
        harness.Wrap = (rank, data) => new FaultyData(data) { Reading = (step, microBatch) => harness.Controls[0].Exiting |= step == 7 && rank == 0 };
        var outcomes = await harness.RunAsync();
        Assert.Equal(LoopOutcome.Left, outcomes[0]);
        Assert.All(outcomes[1..], outcome => Assert.IsType<RingBrokenException>(outcome));
        Assert.All(harness.Replicas, replica => Assert.Equal(6, replica.State.Step));

        // Alone, it leaves a checkpoint of the step before.
        Assert.Equal(size == 1, harness.Sink.Checkpoints.Any(c => c.Name.EndsWith("00000006", StringComparison.Ordinal)));
    }

    [Fact]
    public async Task TheTimeLimitEndsTraining()
    {
        using var harness = new LoopHarness(TinyRun.Spec(s => (s.Training.Steps, s.Training.MaxSeconds) = (1_000_000, 0.3)), 2);
        Assert.All(await harness.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        Assert.InRange(harness.Replicas[0].State.TrainSeconds, 0.3, 20);
        Assert.Equal(harness.Replicas[0].State.TrainSeconds, harness.Replicas[1].State.TrainSeconds);
    }

    [Fact]
    public async Task AnExplodingLossIsFatalAndNamesTheStep()
    {
        using var harness = new LoopHarness(TinyRun.Spec(s => (s.Optimizer.LearningRate, s.Optimizer.WarmupSteps, s.Optimizer.ClipNorm) = (1e30, 0, 0)), 2);
        var outcomes = await harness.RunAsync();
        var fatal = Assert.Single(outcomes.OfType<FatalTrainingException>().Take(1));
        Assert.Equal("LOSS_NOT_FINITE", fatal.Reason);
        Assert.Contains($"Step {harness.Replicas[0].State.Step + 1}", fatal.Message);
        Assert.Contains("optimizer.learning_rate", fatal.Message);
    }

    [Fact]
    public async Task ACheckpointThatFailsIsTriedAgainAtTheNextInterval()
    {
        var store = new FailingStore(failures: 1);
        using var harness = new LoopHarness(TinyRun.Spec(), 2) { Checkpoints = store };
        Assert.All(await harness.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        Assert.Equal([4L, 8, 12], store.Tried);
        Assert.Equal([8L, 12], harness.Sink.Checkpoints.Select(c => Storage.ResourceName.ParseCheckpoint(c.Name).Step));
    }

    [Fact]
    public async Task TrainingIsNotOverWithoutItsLastCheckpoint()
    {
        var store = new FailingStore(failures: int.MaxValue);
        using var harness = new LoopHarness(TinyRun.Spec(), 1) { Checkpoints = store };
        store.Failed = step => harness.Controls[0].Exiting = step == 12;
        Assert.Equal([LoopOutcome.Left], await harness.RunAsync());
        Assert.Equal([4L, 8, 12], store.Tried);
        Assert.Equal(0, harness.Sink.FinishedCount);

        // Whoever holds the state writes it in the next epoch.
        using var next = new LoopHarness(TinyRun.Spec(), 1, 2, [harness.Replicas[0]]);
        Assert.Equal([LoopOutcome.Finished], await next.RunAsync());
        Assert.Equal("runs/tiny/checkpoints/00000012", Assert.Single(next.Sink.Checkpoints).Name);
        Assert.Equal(1, next.Sink.FinishedCount);
    }

    internal static bool SameState(Replica a, Replica b) =>
        MemoryMarshal.AsBytes(a.Model.Parameters.Values).SequenceEqual(MemoryMarshal.AsBytes(b.Model.Parameters.Values))
        && a.OptimizerState.Count == b.OptimizerState.Count
        && a.OptimizerState.Zip(b.OptimizerState).All(s => MemoryMarshal.AsBytes(s.First.AsSpan()).SequenceEqual(MemoryMarshal.AsBytes(s.Second.AsSpan())))
        && a.State.Step == b.State.Step && a.State.ValidationLoss == b.State.ValidationLoss;

    private sealed class FailingStore(int failures) : ICheckpointStore
    {
        public List<long> Tried { get; } = [];

        public Action<long> Failed { get; set; } = _ => { };

        public string Save(ReplicaSnapshot snapshot, int keep)
        {
            Tried.Add(snapshot.State.Step);
            if (Tried.Count > failures)
            {
                return $"runs/tiny/checkpoints/{snapshot.State.Step:D8}";
            }

            Failed(snapshot.State.Step);
            throw new IOException("No space left on device");
        }

        public long NewestIntact(string run, long step) => 0;

        public TrainerState Load(Replica replica, long step) => throw new NotSupportedException();
    }
}
