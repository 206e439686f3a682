using LlmPipeline.Trainer.Worker;

namespace LlmPipeline.Trainer.Tests;

public sealed class EarlyStoppingTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public async Task TrainingEndsEarlyWhereverItWasInterrupted(int size)
    {
        // The first validation (step 5) is an improvement, the two after it are none.
        var spec = TinyRun.Spec(s => (s.Training.Steps, s.Training.Patience, s.Training.MinImprovement, s.Training.LabelSmoothing) = (100, 2, 10, 0.1));
        using var reference = new LoopHarness(spec, 1);
        Assert.Equal([LoopOutcome.Finished], await reference.RunAsync());
        Assert.Equal(15, reference.Replicas[0].State.Step);
        Assert.Equal(15, Storage.ResourceName.ParseCheckpoint(reference.Sink.Checkpoints.Last().Name).Step);
        Assert.Equal(1, reference.Sink.FinishedCount);

        // A cancellation validates after a step at which nothing is due; that one does not count.
        using var first = new LoopHarness(spec, size);
        first.AfterStep = step => first.Controls[0].StopRequested = step >= 6;
        Assert.All(await first.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        Assert.InRange(first.Replicas[0].State.Step, 6, 9);
        var newcomer = TinyRun.NewReplica(spec);
        newcomer.State = newcomer.State with { Step = -1 };
        using var second = new LoopHarness(spec, size + 1, 2, [newcomer, .. first.Replicas]);
        Assert.All(await second.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        Assert.All(second.Replicas, replica => Assert.True(TrainingLoopTests.SameState(reference.Replicas[0], replica)));
        Assert.Equal(2, newcomer.State.ValidationsWithoutImprovement);
    }

    [Fact]
    public void AnImprovementStartsThePatienceAnew()
    {
        var state = new TrainerState { Run = "runs/tiny", SpecHash = "" };
        var counts = new List<int>();
        foreach (var loss in new[] { 3.0, 2.95, 2.91, 2.85, 2.8, double.NaN, 2.7 })
        {
            state = state.Counted(loss, 0.1);
            counts.Add(state.ValidationsWithoutImprovement);
        }

        Assert.Equal([0, 1, 2, 0, 1, 2, 0], counts);
        Assert.Equal(2.7, state.ImprovedLoss);
        Assert.Equal(state, TrainerState.Parse(state.ToJson(), "a test"));
    }
}
