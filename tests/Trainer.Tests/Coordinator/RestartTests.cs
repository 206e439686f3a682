using LlmPipeline.Storage;
using LlmPipeline.Trainer.Coordinator;
using State = LlmPipeline.Runs.V1.Run.Types.State;

namespace LlmPipeline.Trainer.Tests.Coordinator;

/// <summary>A coordinator that goes away in any stage, and comes back.</summary>
public sealed class RestartTests
{
    [Fact]
    public async Task ARunThatWaitsIsStillThere()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Preprocessor.Hold();
        await harness.CreateAsync("run-1");
        await harness.CreateAsync("run-2");
        await harness.WaitAsync(State.Preparing, "run-1");
        await harness.RestartAsync();
        harness.Preprocessor.Release();
        harness.Workers.Start("worker-a");
        await harness.WaitAsync(State.Succeeded, "run-1");
        await harness.WaitAsync(State.Succeeded, "run-2");
    }

    [Fact]
    public async Task PreparingFindsItsDatasetAgain()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Preprocessor.Hold();
        await harness.CreateAsync();
        await harness.WaitAsync("a quarter", r => r.Progress.Fraction == 0.25);
        await harness.StopCoordinatorAsync();
        harness.Preprocessor.Release();
        harness.Workers.Start("worker-a");
        await harness.StartCoordinatorAsync();
        var run = await harness.WaitAsync(State.Succeeded);
        Assert.Equal(2, harness.Preprocessor.CreateCount);
        Assert.Contains(run.Events, e => e.Kind == RunEvents.CoordinatorRestarted);
    }

    [Fact]
    public async Task TrainingGoesOnFromWhatTheWorkersHold()
    {
        // Nobody is lost here, also where the machine stands still for some seconds.
        await using var harness = await CoordinatorHarness.StartAsync(("Coordinator:WorkerLostSeconds", "30"));
        harness.Workers.Limit = 6;
        harness.Workers.Start("worker-a");
        harness.Workers.Start("worker-b");
        await harness.CreateAsync(change: s => s.Training.MinWorkers = 2);
        await harness.WaitAsync("step 6", r => r.Progress.Step == 6);
        await harness.StopCoordinatorAsync();
        await harness.StartCoordinatorAsync();
        await harness.WaitAsync("another epoch", r => r.Events.Count(e => e.Kind == RunEvents.EpochStarted) == 2);
        harness.Workers.Limit = long.MaxValue;
        var run = await harness.WaitAsync(State.Succeeded);

        var plans = harness.Workers.Plans.Select(p => p.Plan).ToList();
        Assert.True(plans.Select(p => p.Epoch).Distinct().Order().SequenceEqual(plans.Select(p => p.Epoch).Distinct()));
        var second = plans.Last(p => p.SourceRank >= 0);
        Assert.Equal((6L, 2), (second.StartStep, second.Members.Count));
        Assert.Equal(Enumerable.Range(1, 12).Select(i => (long)i), (await harness.MetricsAsync()).Select(m => m.Step));
        Assert.DoesNotContain(run.Events, e => e.Kind == RunEvents.WorkerLost);
    }

    [Fact]
    public async Task TrainingGoesOnFromTheNewestCheckpointWhenAllIsLost()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Workers.Limit = 6;
        var worker = harness.Workers.Start("worker-a");
        await harness.CreateAsync();
        await harness.WaitAsync("step 6", r => r.Progress.Step == 6);
        await worker.KillAsync();
        await harness.StopCoordinatorAsync();

        // Written, but never reported; and one that is only half there.
        await FakeWorker.SaveAsync(harness.Store, "runs/some-run", 5);
        await FakeWorker.SaveAsync(harness.Store, "runs/some-run", 6);
        await harness.Store.DeleteAsync("runs/some-run/checkpoints/00000006/manifest.json");
        harness.Workers.Limit = long.MaxValue;
        harness.Workers.Start("worker-b");
        await harness.StartCoordinatorAsync();
        await harness.WaitAsync(State.Succeeded);
        var plan = harness.Workers.Plans.Last().Plan;
        Assert.Equal((-1, 5L, "runs/some-run/checkpoints/00000005"), (plan.SourceRank, plan.StartStep, plan.Checkpoint));
        Assert.Equal(Enumerable.Range(1, 12).Select(i => (long)i), (await harness.MetricsAsync()).Select(m => m.Step));
    }

    [Fact]
    public async Task EvaluatingIsAskedForAgain()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Evaluator.Hold();
        harness.Workers.Start("worker-a");
        await harness.CreateAsync();
        await harness.WaitAsync("half", r => r.State == State.Evaluating && r.Progress.Fraction == 0.5);
        await harness.StopCoordinatorAsync();
        harness.Evaluator.Release();
        await harness.StartCoordinatorAsync();
        await harness.WaitAsync(State.Succeeded);
        Assert.Equal(2, harness.Evaluator.Requests.Count);
        Assert.Equal(harness.Evaluator.Requests[0], harness.Evaluator.Requests[1]);
    }

    [Fact]
    public async Task PublishingFindsTheVersionThatItMadeBefore()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Workers.Start("worker-a");
        await harness.CreateAsync();
        await harness.WaitAsync(State.Succeeded);
        await harness.StopCoordinatorAsync();

        // As if the process had died between publishing and recording it.
        var record = (await harness.Store.TryReadTextAsync("runs/some-run/run.json"))!.Value.Text;
        Assert.Contains("\"STATE_SUCCEEDED\"", record);
        await harness.Store.WriteTextAsync("runs/some-run/run.json", record
            .Replace("\"STATE_SUCCEEDED\"", "\"STATE_PUBLISHING\"", StringComparison.Ordinal)
            .Replace("\"modelVersion\": \"models/some-run/versions/1\",", "", StringComparison.Ordinal));
        await harness.StartCoordinatorAsync();
        Assert.Equal("models/some-run/versions/1", (await harness.WaitAsync(State.Succeeded)).ModelVersion);
        Assert.Null(await harness.Store.TryReadManifestAsync("models/some-run/versions/2"));
    }

    [Fact]
    public async Task ACancellationIsFinished()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Workers.Limit = 6;
        harness.Workers.Start("worker-a");
        await harness.CreateAsync();
        await harness.WaitAsync("step 6", r => r.Progress.Step == 6);
        await harness.StopCoordinatorAsync();
        var record = (await harness.Store.TryReadTextAsync("runs/some-run/run.json"))!.Value.Text;
        await harness.Store.WriteTextAsync("runs/some-run/run.json", record.Replace("\"STATE_TRAINING\"", "\"STATE_CANCELLING\"", StringComparison.Ordinal));
        await harness.StartCoordinatorAsync();
        var run = await harness.WaitAsync(State.Cancelled);
        Assert.Equal("runs/some-run/checkpoints/00000006", run.LatestCheckpoint);
    }

    [Fact]
    public async Task ACancellationAfterTrainingIsFinishedWithoutWorkers()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        var worker = harness.Workers.Start("worker-a");
        await harness.CreateAsync();
        await harness.WaitAsync(State.Succeeded);
        await worker.KillAsync();
        await harness.StopCoordinatorAsync();
        var record = (await harness.Store.TryReadTextAsync("runs/some-run/run.json"))!.Value.Text;
        await harness.Store.WriteTextAsync("runs/some-run/run.json", record.Replace("\"STATE_SUCCEEDED\"", "\"STATE_CANCELLING\"", StringComparison.Ordinal));
        await harness.StartCoordinatorAsync();
        await harness.WaitAsync(State.Cancelled);
    }

    [Fact]
    public async Task ADamagedRecordCostsItsRunAlone()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Workers.Start("worker-a");
        await harness.CreateAsync("run-1");
        await harness.WaitAsync(State.Succeeded, "run-1");
        await harness.StopCoordinatorAsync();
        await harness.Store.WriteTextAsync("runs/run-2/run.json", "{ \"name\": ");
        await harness.StartCoordinatorAsync();
        Assert.Equal(State.Succeeded, (await harness.GetAsync("run-1")).State);
        await harness.CreateAsync("run-3");
        await harness.WaitAsync(State.Succeeded, "run-3");
    }
}
