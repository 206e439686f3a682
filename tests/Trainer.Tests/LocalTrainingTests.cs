using LlmPipeline.Fakes;
using LlmPipeline.Runs.V1;
using LlmPipeline.Storage;
using LlmPipeline.Trainer.Collectives;
using LlmPipeline.Trainer.Optimizers;
using LlmPipeline.Trainer.Worker;

namespace LlmPipeline.Trainer.Tests;

/// <summary>Low-communication training.</summary>
public sealed class LocalTrainingTests
{
    /// <summary>18 steps of 4 shards of 2 sequences each, in rounds of 4 steps.</summary>
    internal static RunSpec Spec(Action<RunSpec>? change = null) => TinyRun.Spec(spec =>
    {
        (spec.Training.Steps, spec.Training.BatchSize, spec.Training.MicroBatchSize) = (18, 8, 1);
        (spec.Training.ValidationInterval, spec.Training.CheckpointInterval) = (8, 4);
        spec.Training.Local = new LocalSpec
        {
            Steps = 4,
            Shards = 4,
            OuterLearningRate = 1,
            OuterMomentum = 0.6,
            Wire = "fp32",
            ClipNorm = 0,
            OptimizerState = "average",
            OwnData = false,
        };
        change?.Invoke(spec);
    });

    // Speed and time left are taken from the times of the newest steps.
    [Fact]
    public async Task TheStepsOfARoundAreSpreadOverItsTime()
    {
        using var harness = new LoopHarness(Spec(), 2);
        Assert.All(await harness.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        var (first, third) = (harness.Sink.Steps[5], harness.Sink.Steps[7]);
        Assert.True(first.StepSeconds > 0);
        Assert.Equal(2 * first.StepSeconds, (third.Time - first.Time).ToTimeSpan().TotalSeconds, 1e-4);
    }

    public static TheoryData<string> Variants => ["fp32", "int16", "int8", "reset", "clipped", "sgd", "rmsprop", "local-sgd", "llama"];

    internal static Action<RunSpec> Variant(string name) => spec =>
    {
        var local = spec.Training.Local;
        switch (name)
        {
            case "int16" or "int8":
                local.Wire = name;
                break;
            case "reset":
                local.OptimizerState = "reset";
                break;
            case "clipped":
                local.ClipNorm = 0.05;
                break;
            case "sgd":
                (spec.Optimizer.Kind, spec.Optimizer.Momentum, spec.Optimizer.LearningRate) = ("sgd", 0.9, 0.05);
                break;
            case "rmsprop":
                (spec.Optimizer.Kind, spec.Optimizer.Alpha, spec.Optimizer.Momentum) = ("rmsprop", 0.9, 0.5);
                break;
            case "local-sgd":
                (spec.Optimizer.Kind, spec.Optimizer.LearningRate, local.OuterMomentum) = ("sgd", 0.3, 0);
                break;
            case "llama":
                TinyRun.OtherModel("llama")(spec);
                break;
        }
    };

    [Theory]
    [MemberData(nameof(Variants))]
    public async Task TheResultDependsOnTheShardsAndNotOnTheWorkers(string variant)
    {
        var spec = Spec(Variant(variant));
        using var one = new LoopHarness(spec, 1);
        Assert.Equal([LoopOutcome.Finished], await one.RunAsync());
        Assert.Equal(Enumerable.Range(1, 18).Select(s => (long)s), one.Sink.Curve.Select(c => c.Step));
        Assert.Equal([8L, 16, 18], one.Sink.Curve.Where(c => c.Validation >= 0).Select(c => c.Step));
        Assert.True(one.Sink.Curve[^1].Loss < one.Sink.Curve[0].Loss);
        for (var size = 2; size <= 4; size++)
        {
            using var many = new LoopHarness(spec, size);
            Assert.All(await many.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
            Assert.Equal(one.Sink.Curve, many.Sink.Curve);
            Assert.All(many.Replicas, replica => Assert.True(TrainingLoopTests.SameState(one.Replicas[0], replica)));
            Assert.Equal([4L, 8, 12, 16, 18], many.Sink.Checkpoints.Select(c => ResourceName.ParseCheckpoint(c.Name).Step));
        }
    }

    // Steps of plain SGD from the same parameters: the mean of the new parameters is what the mean gradient makes of the old ones.
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(4)]
    public async Task RoundsOfOneStepOfSgdAreTheSynchronousRunToRounding(int size)
    {
        var spec = Spec(s =>
        {
            s.Training.Local = null;
            (s.Optimizer.Kind, s.Optimizer.LearningRate, s.Optimizer.ClipNorm) = ("sgd", 0.3, 0);
        });
        using var synchronous = new LoopHarness(spec, 1);
        Assert.Equal([LoopOutcome.Finished], await synchronous.RunAsync());
        Replica[] replicas = [.. Enumerable.Range(0, size).Select(_ =>
        {
            var replica = TinyRun.NewReplica(spec);
            return new Replica(1, replica.Model, new LocalOptimizer(Optimizer.Create(spec.Optimizer), 0, keepsInnerState: true), replica.State);
        })];
        using var local = new LoopHarness(spec, size, replicas: replicas)
        {
            Change = settings => settings with { Local = new LocalSettings { Steps = 1, Shards = 4, OuterLearningRate = 1 } },
        };
        Assert.All(await local.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        Assert.Equal(18, local.Sink.Curve.Length);
        foreach (var (a, b) in synchronous.Sink.Curve.Zip(local.Sink.Curve))
        {
            Assert.Equal((a.Step, a.Rate), (b.Step, b.Rate));
            Assert.Equal(a.Loss, b.Loss, 2e-5);
            Assert.Equal(a.Validation, b.Validation, 2e-5);
        }

        var (expected, actual) = (synchronous.Replicas[0].Model.Parameters.Values.ToArray(), local.Replicas[0].Model.Parameters.Values.ToArray());
        Assert.All(expected.Zip(actual), pair => Assert.Equal(pair.First, pair.Second, 2e-5f));
    }

    [Theory]
    [InlineData("fp32")]
    [InlineData("int8")]
    [InlineData("reset")]
    [InlineData("sgd")]
    public async Task KilledAnywhereItResumesWithTheRoundAndGivesTheSameCurveAndState(string variant)
    {
        var spec = Spec(Variant(variant));
        using var folder = new TemporaryFolder();
        using var reference = new LoopHarness(spec, 1);
        Assert.Equal([LoopOutcome.Finished], await reference.RunAsync());
        var random = new Random(variant.Length);
        for (var round = 0; round < 6; round++)
        {
            var store = new CheckpointStore(new FolderBlobStore(Path.Combine(folder.Path, $"{round}")), "{}");
            var curve = new SortedDictionary<long, StepMetrics>();
            for (var kills = 3; kills >= 0; kills--)
            {
                var left = kills > 0 ? random.Next(1, 90) : int.MaxValue;
                var newest = store.NewestIntact("runs/tiny", long.MaxValue);
                Assert.Equal(0, newest == 18 ? 0 : newest % 4);
                var size = 1 + random.Next(4);
                Replica[] replicas = [.. Enumerable.Range(0, size).Select(_ => TinyRun.NewReplica(spec))];
                foreach (var replica in replicas.Where(_ => newest > 0))
                {
                    replica.State = store.Load(replica, newest);
                }

                foreach (var beyond in curve.Keys.Where(s => s > newest).ToList())
                {
                    curve.Remove(beyond);
                }

                using var harness = new LoopHarness(spec, size, replicas: replicas)
                {
                    Checkpoints = store,
                    Wrap = (_, data) => new FaultyData(data) { Reading = (_, _) => _ = Interlocked.Decrement(ref left) >= 0 ? 0 : throw new IOException("killed") },
                };
                var outcomes = await harness.RunAsync();
                foreach (var (step, metrics) in harness.Sink.Steps)
                {
                    curve[step] = metrics;
                }

                if (kills == 0)
                {
                    Assert.All(outcomes, outcome => Assert.Equal(LoopOutcome.Finished, outcome));
                    Assert.All(replicas, replica => Assert.True(TrainingLoopTests.SameState(reference.Replicas[0], replica)));
                }
            }

            Assert.Equal(reference.Sink.Curve, curve.Values.Select(LoopHarness.RecordingSink.Comparable));
        }
    }

    [Fact]
    public async Task WhenAMemberIsLostTheOthersGoOnWithTheirShards()
    {
        var spec = Spec();
        using var reference = new LoopHarness(spec, 1);
        await reference.RunAsync();
        for (var left = 3; left < 30; left += 5)
        {
            // Of three ranks, rank 2 has two shards. Rank 0 is lost in the middle of its shard.
            var readByOther = new HashSet<(long, int)>();
            var isSecond = false;
            var budget = left;
            FaultyData Wrap(int rank, ITrainingData data) => new(data)
            {
                Reading = (step, microBatch) =>
                {
                    if (!isSecond && rank == 0 && --budget < 0)
                    {
                        throw new IOException("lost");
                    }

                    // Micro-batches 4 to 7 are shards 2 and 3, which the last rank has in both epochs.
                    if (microBatch >= 4)
                    {
                        lock (readByOther)
                        {
                            Assert.True(readByOther.Add((step, microBatch)), $"Step {step} of shard {microBatch / 2} was computed twice.");
                        }
                    }
                },
            };
            using var broken = new LoopHarness(spec, 3) { Wrap = Wrap };
            var outcomes = await broken.RunAsync();
            Assert.IsType<IOException>(outcomes[0]);
            Assert.All(outcomes[1..], outcome => Assert.IsType<RingBrokenException>(outcome));
            isSecond = true;
            using var survivors = new LoopHarness(spec, 2, 2, [broken.Replicas[1], broken.Replicas[2]]) { Wrap = Wrap };
            foreach (var (step, metrics) in broken.Sink.Steps)
            {
                survivors.Sink.Steps[step] = metrics;
            }

            Assert.All(await survivors.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
            Assert.Equal(reference.Sink.Curve, survivors.Sink.Curve);
            Assert.All(survivors.Replicas, replica => Assert.True(TrainingLoopTests.SameState(reference.Replicas[0], replica)));
        }
    }

    [Theory]
    [InlineData("fp32")]
    [InlineData("int8")]
    public async Task ABrokenExchangeIsRepeatedWithTheSameResult(string variant)
    {
        var spec = Spec(Variant(variant));
        using var reference = new LoopHarness(spec, 1);
        await reference.RunAsync();
        for (var chunk = 2; chunk < 90; chunk += 7)
        {
            using var broken = new LoopHarness(spec, 3);
            broken.Rings[1].BreakAtChunk = chunk;
            var outcomes = await broken.RunAsync();
            Assert.All(outcomes, outcome => Assert.IsType<RingBrokenException>(outcome));
            using var survivors = new LoopHarness(spec, 2, 2, [broken.Replicas[2], broken.Replicas[0]]);
            foreach (var (step, metrics) in broken.Sink.Steps)
            {
                survivors.Sink.Steps[step] = metrics;
            }

            Assert.All(await survivors.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
            Assert.Equal(reference.Sink.Curve, survivors.Sink.Curve);
            Assert.All(survivors.Replicas, replica => Assert.True(TrainingLoopTests.SameState(reference.Replicas[0], replica)));
        }
    }

    [Fact]
    public async Task ACancellationWithinARoundStopsAllBeforeItAndTheRoundIsTakenOnResuming()
    {
        var spec = Spec();
        using var reference = new LoopHarness(spec, 1);
        await reference.RunAsync();
        using var folder = new TemporaryFolder();
        var store = new CheckpointStore(new FolderBlobStore(folder.Path), "{}");
        using var harness = new LoopHarness(spec, 2) { Checkpoints = store };
        harness.Wrap = (_, data) => new FaultyData(data) { Reading = (step, _) => harness.Controls[1].StopRequested |= step == 10 };
        Assert.All(await harness.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        Assert.All(harness.Replicas, replica => Assert.Equal(8, replica.State.Step));
        Assert.Equal(8, store.NewestIntact("runs/tiny", long.MaxValue));

        var resumed = TinyRun.NewReplica(spec);
        resumed.State = store.Load(resumed, 8);
        using var rest = new LoopHarness(spec, 1, replicas: [resumed]);
        Assert.Equal([LoopOutcome.Finished], await rest.RunAsync());
        Assert.Equal(reference.Sink.Curve.Skip(8), rest.Sink.Curve.Where(c => c.Step > 8));
        Assert.True(TrainingLoopTests.SameState(reference.Replicas[0], resumed));
    }

    [Fact]
    public async Task ANewcomerTakesShardsOverInTheMiddleOfARound()
    {
        var spec = Spec();
        using var reference = new LoopHarness(spec, 1);
        await reference.RunAsync();
        using var first = new LoopHarness(spec, 1);
        first.Wrap = (_, data) => new FaultyData(data)
        {
            Reading = (step, _) =>
            {
                first.Controls[0].LeaveRequested |= step == 7;
                Thread.Sleep(step is 6 or 7 ? 100 : 0);
            },
        };
        Assert.Equal([LoopOutcome.Left], await first.RunAsync());
        Assert.Equal(4, first.Replicas[0].State.Step);
        var newcomer = TinyRun.NewReplica(spec);
        newcomer.State = newcomer.State with { Step = -1 };
        using var second = new LoopHarness(spec, 2, 2, [first.Replicas[0], newcomer]);
        Assert.All(await second.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        Assert.Equal(reference.Sink.Curve.Skip(4), second.Sink.Curve.Where(c => c.Step > 4));
        Assert.All(second.Replicas, replica => Assert.True(TrainingLoopTests.SameState(reference.Replicas[0], replica)));

        // The time of the epoch before is told with the round's.
        Assert.True(second.Sink.Steps.Values.Where(s => s.Step is > 4 and <= 8).Sum(s => s.StepSeconds) > 0.2);
        Assert.All(second.Sink.Steps.Values, s => Assert.Equal(s.StepSeconds, s.Phases.Data + s.Phases.ForwardBackward + s.Phases.Exchange + s.Phases.Optimizer + s.Phases.Validation + s.Phases.Checkpoint + s.Phases.Other, 1e-5));
    }

    [Fact]
    public async Task AnAnomalyInAStepVoidsTheRound()
    {
        var spec = Spec(s => (s.Training.Steps, s.Training.SpikeDeviation) = (48, 2));
        static FaultyData Wrap(int rank, ITrainingData data) => new(data) { IsWrong = step => step == 38 };
        using var one = new LoopHarness(spec, 1) { Wrap = Wrap };
        Assert.Equal([LoopOutcome.Finished], await one.RunAsync());
        Assert.Equal([37L, 38, 39, 40], one.Sink.Steps.Values.Where(s => s.Anomaly == "LOSS_SPIKE").Select(s => s.Step).Order());
        Assert.Contains("in step 38", Assert.Single(one.Sink.Events, e => e.Kind == "STEP_SKIPPED").Message);
        Assert.Equal((48, 4), (one.Replicas[0].State.Step, one.Replicas[0].State.Guard.SkippedSteps));
        using var three = new LoopHarness(spec, 3) { Wrap = Wrap };
        Assert.All(await three.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        Assert.Equal(one.Sink.Curve, three.Sink.Curve);
        Assert.All(three.Replicas, replica => Assert.True(TrainingLoopTests.SameState(one.Replicas[0], replica)));
    }

    [Fact]
    public async Task AnAnomalyCanTakeTrainingBackToTheRoundsBegin()
    {
        using var folder = new TemporaryFolder();
        var spec = Spec(s => (s.Training.Steps, s.Training.SpikeDeviation, s.Training.OnAnomaly) = (48, 2, "rollback"));
        using var harness = new LoopHarness(spec, 2)
        {
            Checkpoints = new CheckpointStore(new FolderBlobStore(folder.Path), "{}"),
            Wrap = (_, data) => new FaultyData(data) { IsWrong = step => step == 38 },
        };
        Assert.All(await harness.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        Assert.Equal([36L], harness.Sink.Rollbacks);
        Assert.Equal((48, 4), (harness.Replicas[1].State.Step, harness.Replicas[1].State.Guard.DataOffset));
        Assert.True(TrainingLoopTests.SameState(harness.Replicas[0], harness.Replicas[1]));
    }

    [Fact]
    public async Task AMicroBatchThatDoesNotFitMakesAllTakeASmallerOne()
    {
        var spec = Spec(s => (s.Training.BatchSize, s.Training.MicroBatchSize) = (24, 6));
        using var harness = new LoopHarness(spec, 2) { Wrap = (rank, data) => new FaultyData(data) { MostRows = rank == 1 ? 3 : 99 } };
        Assert.All(await harness.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        Assert.All(harness.Sink.Steps.Values, s => Assert.Equal(3, s.MicroBatchSize));
        using var small = new LoopHarness(Spec(s => (s.Training.BatchSize, s.Training.MicroBatchSize) = (24, 3)), 1);
        await small.RunAsync();
        Assert.Equal(small.Sink.Curve, harness.Sink.Curve);
    }

    [Fact]
    public async Task EarlyStoppingEndsItAtARoundsEnd()
    {
        var spec = Spec(s => (s.Training.Steps, s.Training.Patience, s.Training.MinImprovement, s.Training.ValidationInterval) = (400, 1, 100, 8));
        using var harness = new LoopHarness(spec, 2);
        Assert.All(await harness.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        Assert.Equal(16, harness.Replicas[0].State.Step);
    }

    [Fact]
    public async Task ARoundSendsAFractionOfWhatItsStepsWouldAndTellsIt()
    {
        using var local = new LoopHarness(Spec(Variant("reset")), 2);
        await local.RunAsync();
        Assert.All(local.Sink.Steps.Values, s => Assert.Equal(s.Step % 4 == 0 || s.Step == 18, s.ExchangeBytes > 0));
        using var synchronous = new LoopHarness(Spec(s => s.Training.Local = null), 2);
        await synchronous.RunAsync();
        var ratio = (double)synchronous.Sink.Steps.Values.Sum(s => s.ExchangeBytes) / local.Sink.Steps.Values.Sum(s => s.ExchangeBytes);
        Assert.InRange(ratio, 2.5, 3.7);

        using var int8 = new LoopHarness(Spec(s =>
        {
            Variant("reset")(s);
            Variant("int8")(s);
        }), 2);
        await int8.RunAsync();
        Assert.InRange((double)local.Sink.Steps.Values.Sum(s => s.ExchangeBytes) / int8.Sink.Steps.Values.Sum(s => s.ExchangeBytes), 2.5, 7);
    }
}
