using LlmPipeline.Models;
using LlmPipeline.Trainer.Worker;

namespace LlmPipeline.Trainer.Tests;

public sealed class PrecisionTests
{
    [Theory]
    [InlineData(2)]
    [InlineData(3)]
    public async Task Bf16GivesTheSameBitsOnAnyNumberOfWorkers(int size)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Autocast is Linux's.");
        using var one = await RunAsync(1, "bf16");
        using var many = await RunAsync(size, "bf16");
        using var fp32 = await RunAsync(1, "fp32");
        Assert.Equal(one.Sink.Curve, many.Sink.Curve);
        Assert.All(many.Replicas, replica => Assert.True(TrainingLoopTests.SameState(one.Replicas[0], replica)));
        Assert.All(many.Replicas, replica => Assert.Equal("bf16", replica.State.Precision));
        Assert.NotEqual(fp32.Sink.Curve, one.Sink.Curve);
        Assert.Equal(fp32.Sink.Curve[^1].Loss, one.Sink.Curve[^1].Loss, 0.05);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public async Task AutoIsDecidedOnceForAllWorkers(int size)
    {
        using var harness = await RunAsync(size, "auto");
        var decided = harness.Replicas[0].State.Precision;
        Assert.NotNull(decided);
        using var named = await RunAsync(1, decided);
        Assert.Equal(named.Sink.Curve, harness.Sink.Curve);
        Assert.All(harness.Replicas, replica => Assert.Equal(decided, replica.State.Precision));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public async Task AutoIsTriedWithAMicroBatchThatFits(int size)
    {
        using var harness = new LoopHarness(TinyRun.Spec(s => (s.Training.BatchSize, s.Training.MicroBatchSize, s.Training.Precision) = (12, 4, "auto")), size)
        {
            Wrap = (rank, data) => rank == 0 ? new FaultyData(data) { MostRows = 2 } : data,
        };
        Assert.All(await harness.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        Assert.Equal(["MICRO_BATCH_REDUCED", "PRECISION_CHOSEN"], harness.Sink.Events.Select(e => e.Kind));
        Assert.All(harness.Replicas, replica => Assert.Equal((2, harness.Replicas[0].State.Precision), (replica.State.MicroBatchSize, replica.State.Precision)));
        using var reference = new LoopHarness(
            TinyRun.Spec(s => (s.Training.BatchSize, s.Training.MicroBatchSize, s.Training.Precision) = (12, 2, harness.Replicas[0].State.Precision)), 1);
        await reference.RunAsync();
        Assert.Equal(reference.Sink.Curve, harness.Sink.Curve);
    }

    [Theory]
    [InlineData("bf16", "bf16")]
    [InlineData("fp32", "fp32")]
    [InlineData(null, "fp32")] // of a version that knew only fp32
    public async Task AResumedRunKeepsWhatWasDecided(string? recorded, string expected)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Autocast is Linux's.");
        using var harness = new LoopHarness(TinyRun.Spec(s => s.Training.Precision = "auto"), 2);
        foreach (var replica in harness.Replicas)
        {
            replica.State = replica.State with { Step = 6, Precision = recorded };
        }

        Assert.All(await harness.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        Assert.All(harness.Replicas, replica => Assert.Equal(expected, replica.State.Precision));
        Assert.All(harness.Replicas, replica => Assert.Equal(Precisions.Parse(expected), replica.Model.Precision));
    }

    [Fact]
    public void Bf16IsTakenOnlyWhereItIsFasterByMoreThanNoise()
    {
        Assert.Equal(Precision.Bf16, Choose(100, 90).Chosen);
        Assert.Equal(Precision.Fp32, Choose(100, 98).Chosen);
        Assert.Equal(Precision.Fp32, Choose(100, 150).Chosen);
        Assert.Contains("100.0 ms in fp32 and 90.0 ms in bf16", Choose(100, 90).Reason, StringComparison.Ordinal);

        static PrecisionTrial Choose(double fp32, double bf16) => PrecisionTrial.Choose(TimeSpan.FromMilliseconds(fp32), TimeSpan.FromMilliseconds(bf16));
    }

    [Fact]
    public async Task Fp16WithoutCudaIsRefusedWithWords()
    {
        using var harness = new LoopHarness(TinyRun.Spec(s => s.Training.Precision = "fp16"), 1);
        var fatal = Assert.IsType<FatalTrainingException>(Assert.Single(await harness.RunAsync()));
        Assert.Equal("INVALID_SPEC", fatal.Reason);
        Assert.StartsWith("training.precision: Precision fp16 is for CUDA", fatal.Message, StringComparison.Ordinal);
    }

    // A scale beyond what fp32 holds overflows on the CPU too, and scales of powers of two leave no trace in fp32.
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public async Task AStepThatOverflowsIsTakenAgainWithHalfTheScaleAndNothingElseChanges(int size)
    {
        using var plain = await RunAsync(1, "fp32");
        using var scaled = new LoopHarness(TinyRun.Spec(), size);
        foreach (var replica in scaled.Replicas)
        {
            replica.State = replica.State with { LossScaler = new LossScaler(Math.Pow(2, 126)) };
        }

        Assert.All(await scaled.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        Assert.Equal(plain.Sink.Curve, scaled.Sink.Curve);
        Assert.All(scaled.Replicas, replica => Assert.True(TrainingLoopTests.SameState(plain.Replicas[0], replica)));
        var scaler = scaled.Replicas[0].State.LossScaler!;
        Assert.InRange(scaler.Scale, Math.Pow(2, 100), Math.Pow(2, 125));
        Assert.All(scaled.Replicas, replica => Assert.Equal(scaler, replica.State.LossScaler));
        Assert.Equal(scaler, TrainerState.Parse(scaled.Replicas[0].State.ToJson(), "test").LossScaler);
    }

    [Fact]
    public async Task WhatOverflowsAtEveryScaleIsFatal()
    {
        using var harness = new LoopHarness(TinyRun.Spec(s => s.Training.OnAnomaly = "stop"), 2);
        foreach (var replica in harness.Replicas)
        {
            replica.State = replica.State with { LossScaler = new LossScaler() };
            replica.Model.Parameters.Values[0] = float.NaN;
        }

        var fatal = Assert.IsType<FatalTrainingException>((await harness.RunAsync())[0]);
        Assert.Equal("LOSS_NOT_FINITE", fatal.Reason);
        Assert.Contains("Step 1", fatal.Message, StringComparison.Ordinal);
        Assert.Contains("bf16 or fp32", fatal.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void TheScaleGrowsAfterManyGoodStepsAndHalvesAtOnce()
    {
        var scaler = new LossScaler();
        for (var step = 1; step < LossScaler.GrowthInterval; step++)
        {
            scaler = scaler.After(overflow: false);
            Assert.Equal(new LossScaler(65536, step), scaler);
        }

        Assert.Equal(new LossScaler(131072), scaler.After(overflow: false));
        Assert.Equal(new LossScaler(32768), scaler.After(overflow: true));
    }

    private static async Task<LoopHarness> RunAsync(int size, string precision)
    {
        var harness = new LoopHarness(TinyRun.Spec(s => s.Training.Precision = precision), size);
        Assert.All(await harness.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        return harness;
    }
}
