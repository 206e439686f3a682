using Grpc.Core;
using LlmPipeline.Runs.V1;
using LlmPipeline.Storage;
using LlmPipeline.Trainer.Coordinator;
using State = LlmPipeline.Runs.V1.Run.Types.State;

namespace LlmPipeline.Trainer.Tests.Coordinator;

public sealed class CancelAndResumeTests
{
    [Fact]
    public async Task ARunThatWaitsIsCancelledAtOnceAndTheOthersGoOn()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Preprocessor.Hold();
        await harness.CreateAsync("run-1");
        await harness.CreateAsync("run-2");
        await harness.WaitAsync(State.Preparing, "run-1");
        Assert.Equal(State.Cancelled, (await harness.Runs.CancelRunAsync(new CancelRunRequest { Name = "runs/run-2" })).Run.State);
        harness.Preprocessor.Release();
        harness.Workers.Start("worker-a");
        await harness.WaitAsync(State.Succeeded, "run-1");
        Assert.Equal(State.Cancelled, (await harness.GetAsync("run-2")).State);
    }

    [Fact]
    public async Task PreparingStops()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Preprocessor.Hold();
        await harness.CreateAsync();
        await harness.WaitAsync(State.Preparing);
        await CancelledAsync(harness);
        Assert.Equal(["datasets/some-data"], harness.Preprocessor.Cancelled);
    }

    // The call for the dataset has not been answered yet, so its name is not known.
    [Fact]
    public async Task PreparingStopsBeforeTheDatasetHasAName()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        var asked = harness.Preprocessor.HoldNextCreation();
        await harness.CreateAsync();
        await asked.WaitAsync(TinyRun.Timeout);
        await CancelledAsync(harness);
        Assert.Equal(2, harness.Preprocessor.CreateCount);
        Assert.Equal(["datasets/some-data"], harness.Preprocessor.Cancelled);
    }

    [Fact]
    public async Task ADatasetThatAnotherRunWaitsForIsNotCancelled()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Preprocessor.Hold();
        await harness.CreateAsync("some-run");
        await harness.CreateAsync("run-2");
        await harness.WaitAsync(State.Preparing, "some-run");
        await CancelledAsync(harness);
        await harness.WaitAsync(State.Preparing, "run-2");
        Assert.Empty(harness.Preprocessor.Cancelled);
    }

    [Fact]
    public async Task TrainingStopsWithACheckpointAndAResumeGoesOnFromIt()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Workers.Limit = 6;
        harness.Workers.Start("worker-a");
        harness.Workers.Start("worker-b");
        await harness.CreateAsync();
        await harness.WaitAsync("step 6", r => r.Progress.Step == 6);
        var run = await CancelledAsync(harness);
        Assert.Equal("runs/some-run/checkpoints/00000006", run.LatestCheckpoint);

        harness.Workers.Limit = long.MaxValue;
        var resumed = (await harness.Runs.ResumeRunAsync(new ResumeRunRequest { Name = "runs/some-run" })).Run;
        Assert.Equal((State.Queued, 2), (resumed.State, resumed.Attempt));
        Assert.Null(resumed.EndTime);
        run = await harness.WaitAsync(State.Succeeded);
        Assert.Equal(12, run.Progress.Step);
        var plan = harness.Workers.Plans.First(p => p.Plan.Attempt == 2).Plan;
        Assert.Equal((-1, "runs/some-run/checkpoints/00000006"), (plan.SourceRank, plan.Checkpoint));
        Assert.Equal(Enumerable.Range(1, 12).Select(i => (long)i), (await harness.MetricsAsync()).Select(m => m.Step));
    }

    [Fact]
    public async Task TrainingThatWaitsForWorkersIsCancelledAtOnce()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        await harness.CreateAsync();
        await harness.WaitAsync("waiting", r => r.Events.Any(e => e.Kind == RunEvents.WorkersAwaited));
        await CancelledAsync(harness);
    }

    [Fact]
    public async Task EvaluatingStops()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Evaluator.Hold();
        harness.Workers.Start("worker-a");
        await harness.CreateAsync();
        await harness.WaitAsync("half", r => r.State == State.Evaluating && r.Progress.Fraction == 0.5);
        await CancelledAsync(harness);
        Assert.Equal(["evaluations/some-evaluation"], harness.Evaluator.Cancelled);
    }

    // The call for the evaluation has not been answered yet, so its name is not known.
    [Fact]
    public async Task EvaluatingStopsBeforeTheEvaluationHasAName()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        var asked = harness.Evaluator.HoldNextCreation();
        harness.Workers.Start("worker-a");
        await harness.CreateAsync();
        await asked.WaitAsync(CoordinatorHarness.Patience);
        await CancelledAsync(harness);
        Assert.Equal(2, harness.Evaluator.Requests.Count);
        Assert.Equal(["evaluations/some-evaluation"], harness.Evaluator.Cancelled);
    }

    [Fact]
    public async Task AnEvaluationGoesOnWhenOnlyTheCoordinatorStops()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Evaluator.Hold();
        harness.Workers.Start("worker-a");
        await harness.CreateAsync();
        await harness.WaitAsync("half", r => r.State == State.Evaluating && r.Progress.Fraction == 0.5);
        await harness.StopCoordinatorAsync();
        Assert.Empty(harness.Evaluator.Cancelled);
    }

    [Fact]
    public async Task AnEvaluationThatSomebodyElseCancelledFailsTheRunAndAResumeMeasuresAgain()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Evaluator.EndsCancelled = true;
        harness.Workers.Start("worker-a");
        await harness.CreateAsync();
        var run = await harness.WaitAsync(State.Failed);
        Assert.Equal(("WRONG_STATE", "'evaluations/some-evaluation' was cancelled. Resume the run to measure it again."), (run.Error.Reason, run.Error.Message));

        harness.Evaluator.EndsCancelled = false;
        await harness.Runs.ResumeRunAsync(new ResumeRunRequest { Name = run.Name });
        run = await harness.WaitAsync(State.Succeeded);
        Assert.Equal(2, run.Evaluation.Model.Loss);
    }

    [Fact]
    public async Task CancellingWhatIsOverChangesNothing()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Workers.Start("worker-a");
        await harness.CreateAsync();
        await harness.WaitAsync(State.Succeeded);
        Assert.Equal(State.Succeeded, (await harness.Runs.CancelRunAsync(new CancelRunRequest { Name = "runs/some-run" })).Run.State);
        var exception = await Assert.ThrowsAsync<RpcException>(async () => await harness.Runs.ResumeRunAsync(new ResumeRunRequest { Name = "runs/some-run" }));
        Assert.Equal(StatusCode.FailedPrecondition, exception.StatusCode);
        Assert.Contains("SUCCEEDED", exception.Status.Detail);
    }

    [Fact]
    public async Task AResumeFromANamedCheckpointForgetsWhatCameAfterIt()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Workers.Limit = 9;
        var worker = harness.Workers.Start("worker-a");
        await harness.CreateAsync();
        await harness.WaitAsync("step 9", r => r.Progress.Step == 9);
        worker.Fail("", new RunError { Reason = "LOSS_NOT_FINITE", Message = "Step 10: the loss is not finite." });
        var run = await harness.WaitAsync(State.Failed);
        Assert.Equal("LOSS_NOT_FINITE", run.Error.Reason);
        await Assert.ThrowsAsync<RpcException>(async () => await harness.Runs.ResumeRunAsync(new ResumeRunRequest { Name = run.Name, Checkpoint = "runs/other/checkpoints/00000004" }));
        var missing = await Assert.ThrowsAsync<RpcException>(async () => await harness.Runs.ResumeRunAsync(new ResumeRunRequest { Name = run.Name, Checkpoint = "runs/some-run/checkpoints/00000005" }));
        Assert.Equal(StatusCode.NotFound, missing.StatusCode);
        Assert.Contains("4, 8", missing.Status.Detail);
        Assert.Equal(State.Failed, (await harness.GetAsync()).State);

        harness.Workers.Limit = 4;
        run = (await harness.Runs.ResumeRunAsync(new ResumeRunRequest { Name = run.Name, Checkpoint = "runs/some-run/checkpoints/00000004" })).Run;
        Assert.Equal(("runs/some-run/checkpoints/00000004", "runs/some-run/checkpoints/00000004"), (run.LatestCheckpoint, run.BestCheckpoint));
        await harness.WaitAsync("an epoch", r => r.Attempt == 2 && r.Workers.Count == 1);
        Assert.Equal([1L, 2, 3, 4], (await harness.MetricsAsync()).Select(m => m.Step));
        Assert.Null(await harness.Store.TryReadManifestAsync("runs/some-run/checkpoints/00000008"));
        Assert.Equal("runs/some-run/checkpoints/00000004", harness.Workers.Plans.Last().Plan.Checkpoint);
        harness.Workers.Limit = long.MaxValue;
        await harness.WaitAsync(State.Succeeded);
    }

    private static async Task<Run> CancelledAsync(CoordinatorHarness harness)
    {
        var answer = (await harness.Runs.CancelRunAsync(new CancelRunRequest { Name = "runs/some-run" })).Run;
        Assert.Contains(answer.State, new[] { State.Cancelling, State.Cancelled });
        var run = await harness.WaitAsync(State.Cancelled);
        Assert.NotNull(run.EndTime);
        Assert.Equal(State.Cancelled, (await harness.Runs.CancelRunAsync(new CancelRunRequest { Name = "runs/some-run" })).Run.State);
        return run;
    }
}
