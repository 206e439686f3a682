using System.Diagnostics;
using LlmPipeline.Runs.V1;
using LlmPipeline.Trainer.Worker;
using TorchSharp;

namespace LlmPipeline.Trainer.Tests;

/// <summary>What steps say about their time and memory.</summary>
public sealed class StepAccountTests
{
    [Fact]
    public async Task PhasesSumToTheWallTime()
    {
        const int Last = 301;
        using var harness = new LoopHarness(TinyRun.Spec(s => (s.Training.Steps, s.Model.Width) = (Last + 1, 32)), 2);
        long begin = 0, end = 0;
        harness.AfterStep = step =>
        {
            begin = step == 1 ? Stopwatch.GetTimestamp() : begin;
            end = step == Last ? Stopwatch.GetTimestamp() : end;
        };
        Assert.All(await harness.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        var steps = harness.Sink.Steps.Values.Where(s => s.Step is > 1 and <= Last).ToList();
        var wall = Stopwatch.GetElapsedTime(begin, end).TotalSeconds;
        Assert.InRange(steps.Sum(s => s.StepSeconds) / wall, 0.98, 1.02);
        Assert.InRange(steps.Sum(s => Sum(s.Phases)) / wall, 0.98, 1.02);
        Assert.All(steps, s => Assert.Equal(s.StepSeconds, Sum(s.Phases), tolerance: 1e-5));
        Assert.True(steps.Sum(s => s.Phases.Validation) > 0 && steps.Sum(s => s.Phases.Checkpoint) > 0);
        Assert.All(steps, s => Assert.True(s.Phases.ForwardBackward > 0 && s.MemoryBytes > 1e6 && s.TokensPerSecond > 0));
        Assert.All(steps, s => Assert.False(s.HasDeviceMemoryBytes));
    }

    [Fact]
    public async Task TheTimeOfAVoidStepIsNotLost()
    {
        const int Void = 7, Milliseconds = 300;
        var isVoid = true;
        using var harness = new LoopHarness(TinyRun.Spec(s => (s.Training.BatchSize, s.Training.MicroBatchSize) = (4, 2)), 1)
        {
            Wrap = (_, data) => new FaultyData(data)
            {
                Reading = (step, _) =>
                {
                    if (step == Void && isVoid)
                    {
                        isVoid = false;
                        Thread.Sleep(Milliseconds);
                        throw new InvalidOperationException("can't allocate memory");
                    }
                },
            },
        };
        Assert.Equal([LoopOutcome.Finished], await harness.RunAsync());
        Assert.Equal(1, harness.Sink.Steps[Void].MicroBatchSize);
        Assert.True(Sum(harness.Sink.Steps[Void].Phases) > Milliseconds / 1000.0);
        Assert.All(harness.Sink.Steps.Values, s => Assert.Equal(s.StepSeconds, Sum(s.Phases), tolerance: 1e-5));
    }

    [Fact]
    public async Task ALongRunKeepsNoTensors()
    {
        using var harness = new LoopHarness(TinyRun.Spec(s => (s.Training.Steps, s.Training.BatchSize) = (1100, 2)), 1);
        var live = new List<long>();
        harness.AfterStep = step =>
        {
            if (step is 100 or 600 or 1100)
            {
                live.Add(DisposeScopeManager.Statistics.ThreadTotalLiveCount);
            }
        };
        Assert.Equal([LoopOutcome.Finished], await harness.RunAsync());
        Assert.Equal(3, live.Count);
        Assert.All(live, count => Assert.Equal(live[0], count));
    }

    private static double Sum(StepPhases p) => p.Data + p.ForwardBackward + p.Exchange + p.Optimizer + p.Validation + p.Checkpoint + p.Other;
}
