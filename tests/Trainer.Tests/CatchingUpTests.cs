using System.Collections.Concurrent;
using LlmPipeline.Fakes;
using LlmPipeline.Models;
using LlmPipeline.Runs.V1;
using LlmPipeline.Storage;
using LlmPipeline.Trainer.Worker;

namespace LlmPipeline.Trainer.Tests;

/// <summary>Members without state, or with another one, get it while the others step on; the result is the same bits.</summary>
public sealed class CatchingUpTests
{
    private const int LastStep = 60;

    [Theory]
    [InlineData(1, 2)]
    [InlineData(2, 3)]
    public async Task TheOthersStepOnWhileANewcomersStateIsOnItsWay(int members, int size)
    {
        var spec = Spec();
        using var reference = await ReferenceAsync(spec);
        using var harness = await WithNewcomersAsync(spec, members, size);
        var shares = new ConcurrentDictionary<(int Rank, long Step), int>();
        harness.Wrap = (rank, data) => new FaultyData(data) { Reading = (step, _) => shares.AddOrUpdate((rank, step), 1, (_, n) => n + 1) };
        var arrived = new TaskCompletionSource();
        harness.Transfer = _ => arrived.Task;
        harness.AfterStep = step =>
        {
            Assert.True(step > 40 || !harness.Replicas[^1].IsWhole);
            if (step == 40)
            {
                arrived.TrySetResult();
            }
        };
        Assert.All(await harness.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        Assert.Equal(reference.Sink.Curve[^harness.Sink.Curve.Length..], harness.Sink.Curve);
        Assert.All(harness.Replicas, replica => Assert.True(TrainingLoopTests.SameState(reference.Replicas[0], replica)));
        Assert.DoesNotContain(shares.Keys, k => k.Rank >= members && k.Step <= 40);
        Assert.All(Enumerable.Range(0, size), rank => Assert.True(shares.ContainsKey((rank, LastStep)), $"Rank {rank} computed nothing of the last step."));
        Assert.All(Enumerable.Range(11, LastStep - 10), step => Assert.Equal(6, Enumerable.Range(0, size).Sum(rank => shares.GetValueOrDefault((rank, step)))));
    }

    [Fact]
    public async Task ALaggardThatIsRankZeroHoldsTheOthersUpOnlyForItsCheckpoint()
    {
        var spec = Spec();
        using var reference = await ReferenceAsync(spec);
        using var harness = await WithNewcomersAsync(spec, 1, 2, newcomersFirst: true);
        var arrived = new TaskCompletionSource();
        harness.Transfer = _ => arrived.Task;
        harness.AfterStepOf = (rank, step) =>
        {
            // The checkpoint of step 30 needs the weights of rank 0.
            if (rank == 1 && step == 30)
            {
                Assert.False(harness.Replicas[0].IsWhole);
                arrived.TrySetResult();
            }
        };
        Assert.All(await harness.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        Assert.Equal(reference.Sink.Curve[^harness.Sink.Curve.Length..], harness.Sink.Curve);
        Assert.All(harness.Replicas, replica => Assert.True(TrainingLoopTests.SameState(reference.Replicas[0], replica)));
    }

    [Fact]
    public async Task WithTooManyUpdatesToKeepTheOthersWait()
    {
        var spec = Spec();
        using var reference = await ReferenceAsync(spec);
        using var harness = await WithNewcomersAsync(spec, 1, 2);
        harness.MaxDeferredBytes = 0;
        var arrived = new TaskCompletionSource();
        harness.Transfer = _ => arrived.Task;
        var newest = 0L;
        harness.AfterStep = step => Volatile.Write(ref newest, step);
        var running = harness.RunAsync();
        var bytesOfFour = 4L * harness.Replicas[1].Model.Parameters.Length * sizeof(float);
        while (harness.Replicas[1].DeferredBytes < bytesOfFour)
        {
            await Task.WhenAny(running, Task.Delay(5));
            Assert.False(running.IsCompleted);
        }

        Assert.NotSame(running, await Task.WhenAny(running, Task.Delay(300)));
        Assert.InRange(Volatile.Read(ref newest), 14, 14);
        arrived.SetResult();
        Assert.All(await running, outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        Assert.Equal(reference.Sink.Curve[^harness.Sink.Curve.Length..], harness.Sink.Curve);
        Assert.All(harness.Replicas, replica => Assert.True(TrainingLoopTests.SameState(reference.Replicas[0], replica)));
    }

    [Theory]
    [InlineData("skip")]
    [InlineData("rollback")]
    public async Task AnAnomalyMeanwhileIsJudgedByTheNewcomerAsByTheOthers(string policy)
    {
        using var folder = new TemporaryFolder();
        var spec = Spec();
        spec.Training.OnAnomaly = policy;
        (spec.Optimizer.LearningRate, spec.Training.SpikeDeviation) = (1e-2, 2);
        spec.Training.MaxAnomalies = 5;
        spec.Training.AnomalyWindow = 500;
        ITrainingData Wrap(ITrainingData data) => new FaultyData(data) { IsWrong = step => step == 45 };
        using var reference = new LoopHarness(spec, 1) { Wrap = (_, data) => Wrap(data), Checkpoints = Store(folder, "one") };
        await reference.RunAsync();
        Assert.Contains(reference.Sink.Events, e => e.Kind == (policy == "skip" ? "STEP_SKIPPED" : "ROLLED_BACK"));

        using var harness = await WithNewcomersAsync(spec, 1, 2);
        harness.Wrap = (_, data) => Wrap(data);
        harness.Checkpoints = Store(folder, "two");
        var arrived = new TaskCompletionSource();
        harness.Transfer = _ => arrived.Task;
        harness.AfterStepOf = (rank, step) =>
        {
            // The one goes back when its state is there; to the others that is the exchange of the rollback.
            if (rank == 1 && !arrived.Task.IsCompleted && step == (policy == "skip" ? 50 : 44))
            {
                Assert.False(harness.Replicas[1].IsWhole);
                arrived.TrySetResult();
            }
        };
        Assert.All(await harness.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        Assert.Equal(reference.Sink.Curve[^harness.Sink.Curve.Length..], harness.Sink.Curve);
        Assert.All(harness.Replicas, replica => Assert.True(TrainingLoopTests.SameState(reference.Replicas[0], replica)));
    }

    [Fact]
    public async Task ATransferThatFailsBreaksTheEpochAndTheNextOneBringsTheState()
    {
        var spec = Spec();
        using var reference = await ReferenceAsync(spec);
        using var broken = await WithNewcomersAsync(spec, 1, 2);
        var fails = new TaskCompletionSource();
        broken.Transfer = _ => fails.Task;
        broken.AfterStep = step =>
        {
            if (step == 20)
            {
                fails.TrySetException(new Collectives.RingBrokenException("the source is gone"));
            }
        };
        Assert.All(await broken.RunAsync(), outcome => Assert.IsType<Collectives.RingBrokenException>(outcome));
        Assert.True(broken.Replicas[0].IsWhole);
        Assert.Equal(-1, broken.Replicas[1].State.Step);

        using var next = new LoopHarness(spec, 2, 2, broken.Replicas);
        Assert.All(await next.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        Assert.Equal(reference.Sink.Curve[^next.Sink.Curve.Length..], next.Sink.Curve);
        Assert.All(next.Replicas, replica => Assert.True(TrainingLoopTests.SameState(reference.Replicas[0], replica)));
    }

    [Theory]
    [InlineData(2, 1)]
    [InlineData(3, 0)]
    [InlineData(3, 2)]
    public async Task AFlippedBitIsFoundAndHealedFromAPeer(int size, int victim)
    {
        var spec = Spec();
        using var reference = await ReferenceAsync(spec);
        using var harness = new LoopHarness(spec, size);
        var flipped = false;
        harness.AfterStepOf = (rank, step) =>
        {
            // The lowest bit of one weight, or of a moment: after the step that the hashes are of.
            if (rank == victim && step == 32 && !flipped)
            {
                flipped = true;
                ref var value = ref (size == 2 ? ref harness.Replicas[rank].OptimizerState[1][7] : ref harness.Replicas[rank].Model.Parameters.Values[7]);
                value = BitConverter.UInt32BitsToSingle(BitConverter.SingleToUInt32Bits(value) ^ 1);
            }
        };
        Assert.All(await harness.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        var healed = Assert.Single(harness.Sink.Events, e => e.Kind == "REPLICA_HEALED");
        Assert.Contains($"Before step 33 the weights or moments of rank {victim} differed", healed.Message);
        Assert.Equal(reference.Sink.Curve, harness.Sink.Curve);
        Assert.All(harness.Replicas, replica => Assert.True(TrainingLoopTests.SameState(reference.Replicas[0], replica)));
    }

    [Fact]
    public async Task ASlowMemberGetsASmallerShareAndTheResultIsTheSame()
    {
        var spec = Spec();
        using var reference = await ReferenceAsync(spec);
        spec = Spec();
        spec.Training.Rebalance = true;
        using var harness = new LoopHarness(spec, 3);
        var shares = new ConcurrentDictionary<(int Rank, long Step), int>();
        harness.Wrap = (rank, data) => new FaultyData(data)
        {
            Reading = (step, _) =>
            {
                shares.AddOrUpdate((rank, step), 1, (_, n) => n + 1);
                if (rank == 1)
                {
                    Thread.Sleep(200);
                }
            },
        };
        Assert.All(await harness.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        Assert.Equal(2, shares[(1, 1)]);
        Assert.Equal(0, shares.GetValueOrDefault((1, 11)));
        Assert.Equal(reference.Sink.Curve, harness.Sink.Curve);
        Assert.All(harness.Replicas, replica => Assert.True(TrainingLoopTests.SameState(reference.Replicas[0], replica)));
    }

    // What a newcomer does before it is a member, to be ready, is no part of what is trained.
    [Theory]
    [InlineData("adamw", Precision.Fp32)]
    [InlineData("adam", Precision.Bf16)]
    [InlineData("sgd", Precision.Fp32)]
    public async Task AReplicaThatWarmedUpIsAsItWasAndJoinsAsOthersDo(string optimizer, Precision precision)
    {
        Assert.SkipUnless(precision == Precision.Fp32 || OperatingSystem.IsLinux(), "Autocast is Linux's.");
        var spec = Spec();
        (spec.Optimizer.Kind, spec.Optimizer.L2, spec.Optimizer.Momentum) = (optimizer, optimizer == "adamw" ? 0 : 0.1, optimizer == "sgd" ? 0.9 : 0);
        spec.Optimizer.WeightDecay = optimizer == "adamw" ? 0.1 : 0;
        using var reference = await ReferenceAsync(spec);
        using var harness = await WithNewcomersAsync(spec, 1, 2);
        var newcomer = harness.Replicas[1];
        var (parameters, before, state) = (newcomer.Model.Parameters.Values.ToArray(), newcomer.Model.Precision, newcomer.State);
        var dataset = TinyRun.Dataset();
        newcomer.WarmUp(new TrainingData(dataset.Train, dataset.Validation, TrainingSettings.From(spec), null), precision);
        Assert.Equal(parameters, newcomer.Model.Parameters.Values.ToArray());
        Assert.All([newcomer.Model.Parameters.Gradients.ToArray(), .. newcomer.OptimizerState], buffer => Assert.DoesNotContain(buffer, v => v != 0));
        Assert.Equal((before, state), (newcomer.Model.Precision, newcomer.State));
        Assert.All(await harness.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        Assert.Equal(reference.Sink.Curve[^harness.Sink.Curve.Length..], harness.Sink.Curve);
        Assert.All(harness.Replicas, replica => Assert.True(TrainingLoopTests.SameState(reference.Replicas[0], replica)));
    }

    private static RunSpec Spec() => TinyRun.Spec(s =>
        (s.Training.Steps, s.Training.ValidationInterval, s.Training.CheckpointInterval, s.Optimizer.LearningRate) = (LastStep, 25, 30, 1e-3));

    private static async Task<LoopHarness> ReferenceAsync(RunSpec spec)
    {
        var reference = new LoopHarness(spec, 1);
        await reference.RunAsync();
        return reference;
    }

    /// <summary>Some members that have done 10 steps, and others that hold nothing.</summary>
    private static async Task<LoopHarness> WithNewcomersAsync(RunSpec spec, int members, int size, bool newcomersFirst = false)
    {
        var before = new LoopHarness(spec, members);
        before.AfterStep = step => before.Controls[0].LeaveRequested = step == 9;
        Assert.All(await before.RunAsync(), outcome => Assert.Equal(LoopOutcome.Left, outcome));
        Assert.Equal(10, before.Replicas[0].State.Step);
        var newcomers = Enumerable.Range(0, size - members).Select(_ =>
        {
            var other = spec.Clone();
            other.Seed = 99;
            var empty = TinyRun.NewReplica(other);
            empty.State = empty.State with { Step = -1 };
            return empty;
        });
        return new LoopHarness(spec, size, 2, newcomersFirst ? [.. newcomers, .. before.Replicas] : [.. before.Replicas, .. newcomers]);
    }

    private static CheckpointStore Store(TemporaryFolder folder, string name) => new(BlobStore.Open($"folder={System.IO.Path.Combine(folder.Path, name)}"), "{}");
}
