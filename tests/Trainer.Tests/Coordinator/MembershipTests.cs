using Grpc.Core;
using LlmPipeline.Runs.V1;
using LlmPipeline.Trainer.Coordinator;
using LlmPipeline.Workers.V1;
using State = LlmPipeline.Runs.V1.Run.Types.State;

namespace LlmPipeline.Trainer.Tests.Coordinator;

/// <summary>Workers that come and go, over gRPC.</summary>
public sealed class MembershipTests
{
    [Fact]
    public async Task ALostWorkerMeansAnEpochOfTheOthers()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Workers.Limit = 5;
        var workers = ((string[])["worker-a", "worker-b", "worker-c"]).Select(harness.Workers.Start).ToList();
        await harness.CreateAsync();
        await harness.WaitAsync("step 5 with three", r => r.Progress.Step == 5 && r.Workers.Count == 3);
        var started = DateTime.UtcNow;
        var lost = workers[1];
        await lost.KillAsync();
        foreach (var other in workers.Where(w => w != lost))
        {
            other.Fail(lost.Id);
        }

        var run = await harness.WaitAsync("an epoch of two", r => r.Workers.Count == 2);
        Assert.True(DateTime.UtcNow - started < TimeSpan.FromSeconds(4));
        harness.Workers.Limit = long.MaxValue;
        run = await harness.WaitAsync(State.Succeeded);
        Assert.Contains(run.Events, e => e.Kind == RunEvents.WorkerLost && e.Message.Contains("worker-b", StringComparison.Ordinal));
        var plan = harness.Workers.Plans.Last().Plan;
        Assert.True(plan.SourceRank >= 0 && plan.StartStep == 5, $"{plan}");
        Assert.Equal(Enumerable.Range(1, 12).Select(i => (long)i), (await harness.MetricsAsync()).Select(m => m.Step));
    }

    [Fact]
    public async Task WhatHappensToWorkersIsInTheTraceOfTheRun()
    {
        var spans = new System.Collections.Concurrent.ConcurrentQueue<System.Diagnostics.Activity>();
        using var listener = new System.Diagnostics.ActivityListener
        {
            ShouldListenTo = source => source.Name == TrainerMetrics.Name,
            Sample = (ref System.Diagnostics.ActivityCreationOptions<System.Diagnostics.ActivityContext> _) => System.Diagnostics.ActivitySamplingResult.AllDataAndRecorded,
            ActivityStopped = spans.Enqueue,
        };
        System.Diagnostics.ActivitySource.AddActivityListener(listener);
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Workers.Limit = 5;
        harness.Workers.Start("worker-a");
        var trace = (await harness.CreateAsync()).TraceId;
        await harness.WaitAsync("step 5", r => r.Progress.Step == 5);
        harness.Workers.Start("worker-b");
        await harness.WaitAsync("an epoch of two", r => r.Workers.Count == 2);
        harness.Workers.Limit = long.MaxValue;
        var run = await harness.WaitAsync(State.Succeeded);
        string[] kinds = [RunEvents.WorkerJoined, RunEvents.EpochStarted];
        var traced = spans.Where(s => s.TraceId.ToHexString() == trace && s.OperationName == "run training").SelectMany(s => s.Events).Where(e => kinds.Contains(e.Name));
        Assert.Equal(run.Events.Where(e => kinds.Contains(e.Kind)).Select(e => (e.Kind, e.Message)), traced.Select(e => (e.Name, (string)e.Tags.Single().Value!)));
    }

    [Fact]
    public async Task ASilentWorkerIsLost()
    {
        await using var harness = await CoordinatorHarness.StartAsync(("Coordinator:WorkerLostSeconds", "0.5"));
        harness.Workers.Limit = 5;
        harness.Workers.Start("worker-a");
        var lost = harness.Workers.Start("worker-b");
        await harness.CreateAsync();
        await harness.WaitAsync("step 5 with two", r => r.Progress.Step == 5 && r.Workers.Count == 2);
        await lost.KillAsync();
        var run = await harness.WaitAsync("an epoch of one", r => r.Workers.Count == 1);
        Assert.Contains(run.Events, e => e.Kind == RunEvents.WorkerLost && e.Message.Contains("no heartbeat for 0.5 s", StringComparison.Ordinal));
    }

    [Fact]
    public async Task ALateWorkerJoinsAndTheRunGoesOn()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Workers.Limit = 5;
        harness.Workers.Start("worker-a");
        await harness.CreateAsync();
        await harness.WaitAsync("step 5", r => r.Progress.Step == 5);
        harness.Workers.Start("worker-b");
        var run = await harness.WaitAsync("an epoch of two", r => r.Workers.Count == 2);
        Assert.Equal(["worker-a", "worker-b"], run.Workers.Select(w => w.WorkerId));
        Assert.Contains(run.Events, e => e.Kind == RunEvents.WorkerJoined && e.Message.Contains("worker-b", StringComparison.Ordinal));
        harness.Workers.Limit = long.MaxValue;
        await harness.WaitAsync(State.Succeeded);
        Assert.Equal([1, 2], (await harness.MetricsAsync()).Select(m => m.WorkerCount).Distinct().Order());
    }

    [Fact]
    public async Task AllWorkersLostMeansWaitingInTraining()
    {
        await using var harness = await CoordinatorHarness.StartAsync(("Coordinator:WorkerLostSeconds", "0.5"));
        harness.Workers.Limit = 5;
        var worker = harness.Workers.Start("worker-a");
        await harness.CreateAsync();
        await harness.WaitAsync("step 5", r => r.Progress.Step == 5);
        await worker.KillAsync();
        var run = await harness.WaitAsync("waiting", r => r.Events.Any(e => e.Kind == RunEvents.WorkersAwaited && e.Message.Contains("all workers are gone", StringComparison.OrdinalIgnoreCase)));
        Assert.Equal((State.Training, 0, false), (run.State, run.Workers.Count, run.Progress.HasTokensPerSecond));
        harness.Workers.Limit = long.MaxValue;
        harness.Workers.Start("worker-b");
        await harness.WaitAsync(State.Succeeded);
        Assert.Equal("runs/some-run/checkpoints/00000004", harness.Workers.Plans.Last().Plan.Checkpoint);
        Assert.Equal(Enumerable.Range(1, 12).Select(i => (long)i), (await harness.MetricsAsync()).Select(m => m.Step));
    }

    [Fact]
    public async Task AReportOfAnOldEpochIsAborted()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Workers.Limit = 5;
        var worker = harness.Workers.Start("worker-a");
        await harness.CreateAsync();
        await harness.WaitAsync("step 5", r => r.Progress.Step == 5);
        foreach (var request in new[]
        {
            new ReportProgressRequest { WorkerId = worker.Id, Run = "runs/some-run", Epoch = worker.Epoch - 1 },
            new ReportProgressRequest { WorkerId = worker.Id, Run = "runs/other", Epoch = worker.Epoch },
            new ReportProgressRequest { WorkerId = "worker-z", Run = "runs/some-run", Epoch = worker.Epoch },
        })
        {
            request.Metrics.Add(new StepMetrics { Step = 6, TrainLoss = 99 });
            request.Finished = true;
            Assert.Equal(StatusCode.Aborted, (await Assert.ThrowsAsync<RpcException>(() => worker.ReportAsync(request))).StatusCode);
        }

        Assert.Equal(5, (await harness.MetricsAsync()).Count);
        await worker.ReportAsync(new ReportProgressRequest { WorkerId = worker.Id, Run = "runs/some-run", Epoch = worker.Epoch });
    }

    [Fact]
    public async Task ARepeatedReportCountsOnce()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Workers.Limit = 5;
        var worker = harness.Workers.Start("worker-a");
        await harness.CreateAsync();
        await harness.WaitAsync("step 5", r => r.Progress.Step == 5);
        var before = (await harness.GetAsync()).Events.Count;
        var again = new ReportProgressRequest { WorkerId = worker.Id, Run = "runs/some-run", Epoch = worker.Epoch, Metrics = { await harness.MetricsAsync() } };
        await worker.ReportAsync(again);
        Assert.Equal([1L, 2, 3, 4, 5], (await harness.MetricsAsync()).Select(m => m.Step));
        Assert.Equal(before, (await harness.GetAsync()).Events.Count);
    }

    [Fact]
    public async Task HeartbeatsOfStrangersAreRefusedWhenTheyMakeNoSense()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        using var channel = Grpc.Net.Client.GrpcChannel.ForAddress(harness.Workers.Coordinator);
        var client = new CoordinatorService.CoordinatorServiceClient(channel);
        foreach (var request in new[]
        {
            new HeartbeatRequest { Address = "http://localhost:1" },
            new HeartbeatRequest { WorkerId = "worker-a", Address = "file:///etc" },
            new HeartbeatRequest { WorkerId = new string('x', 300), Address = "http://localhost:1" },
        })
        {
            Assert.Equal(StatusCode.InvalidArgument, (await Assert.ThrowsAsync<RpcException>(async () => await client.HeartbeatAsync(request))).StatusCode);
        }
    }
}
