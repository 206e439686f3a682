using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using LlmPipeline.Fakes;
using LlmPipeline.Runs.V1;
using LlmPipeline.Storage;
using LlmPipeline.Trainer.Coordinator;
using LlmPipeline.Workers.V1;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using State = LlmPipeline.Runs.V1.Run.Types.State;

namespace LlmPipeline.Trainer.Tests.Coordinator;

/// <summary>What callers and other coordinators may do at the same time, again, late, with another clock or another version.</summary>
public sealed class ControlPlaneTests
{
    [Fact]
    public async Task OfTwoCoordinatorsStartedTogetherExactlyOneWrites()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        await harness.StopCoordinatorAsync();
        for (var race = 0; race < 100; race++)
        {
            var ports = new[] { FreePort.Next(), FreePort.Next() };
            using var barrier = new Barrier(2);
            var apps = await Task.WhenAll(ports.Select(port => Task.Factory.StartNew(() =>
            {
                barrier.SignalAndWait(TinyRun.Timeout);
                return harness.StartOneAsync(port);
            }, TaskCreationOptions.LongRunning).Unwrap())).WaitAsync(TinyRun.Timeout);
            try
            {
                await CoordinatorHarness.WaitUntilAsync("one is in charge", () => apps.Any(IsOpen));

                // Both are asked at once; the same id can be taken only once, by whoever is in charge.
                var answers = await Task.WhenAll(ports.Select(port => CreateAsync(port, $"race-{race:D3}")));
                Assert.Equal([StatusCode.OK, StatusCode.Unavailable], answers.Order());
                Assert.Single(apps, IsOpen);
            }
            finally
            {
                await Task.WhenAll(apps.Select(app => app.StopAsync()));
                await Task.WhenAll(apps.Select(app => app.DisposeAsync().AsTask()));
            }
        }

        await harness.StartCoordinatorAsync();
        Assert.Equal(100, (await harness.Runs.ListRunsAsync(new ListRunsRequest { PageSize = 1000 })).Runs.Count);
    }

    [Fact]
    public async Task ACoordinatorThatAnotherHasTakenOverFromCannotWrite()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Workers.Limit = 5;
        var worker = harness.Workers.Start("worker-a");
        await harness.CreateAsync();
        await harness.WaitAsync("step 5", r => r.Progress.Step == 5);

        // As another coordinator does that has the lease while this one does not know it yet.
        var (text, _) = (await harness.Store.TryReadTextAsync("runs/some-run/run.json"))!.Value;
        await harness.Store.WriteTextAsync("runs/some-run/run.json", text);
        await Assert.ThrowsAnyAsync<RpcException>(() => harness.Runs.CancelRunAsync(new CancelRunRequest { Name = "runs/some-run" }).ResponseAsync);
        var metrics = new ReportProgressRequest { WorkerId = worker.Id, Run = "runs/some-run", Epoch = worker.Epoch, Events = { new RunEvent { Kind = "STEP_SKIPPED", Message = "Step 5." } } };
        await Assert.ThrowsAnyAsync<RpcException>(() => worker.ReportAsync(metrics));
        Assert.Equal(text, (await harness.Store.TryReadTextAsync("runs/some-run/run.json"))!.Value.Text);
    }

    [Fact]
    public async Task AStaleCoordinatorsMetricsDoNotReplaceTheNewOnes()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        var stale = await StepMetricsLog.OpenAsync(harness.Store, "runs/some-run", default);
        stale.Append([new StepMetrics { Step = 1, TrainLoss = 3 }]);
        await stale.CommitAsync(default);
        var present = await StepMetricsLog.OpenAsync(harness.Store, "runs/some-run", default);
        present.Append([new StepMetrics { Step = 2, TrainLoss = 2 }]);
        await present.CommitAsync(default);
        stale.Append([new StepMetrics { Step = 2, TrainLoss = 99 }]);
        await Assert.ThrowsAsync<BlobConditionException>(() => stale.CommitAsync(default));
        Assert.Equal([3.0, 2], (await StepMetricsLog.OpenAsync(harness.Store, "runs/some-run", default)).After(0, 9).Select(s => s.TrainLoss));
    }

    [Fact]
    public async Task ASubmissionThatIsRepeatedIsOneRun()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        var request = new CreateRunRequest { RequestId = Guid.NewGuid().ToString(), Spec = CoordinatorHarness.Spec() };
        var names = new HashSet<string>();
        for (var start = 0; start < 2; start++)
        {
            var runs = await Task.WhenAll(Enumerable.Range(0, 100).Select(_ => harness.Runs.CreateRunAsync(request).ResponseAsync)).WaitAsync(TinyRun.Timeout);
            names.UnionWith(runs.Select(r => r.Run.Name));
            await harness.RestartAsync();
        }

        Assert.Single(names);
        Assert.Single((await harness.Runs.ListRunsAsync(new ListRunsRequest())).Runs);
    }

    [Fact]
    public async Task EventsFollowedOverReconnectionsAndARestartHaveNoGapsAndNoDuplicates()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Workers.Limit = 0;
        harness.Workers.Start("worker-a");
        await harness.CreateAsync(change: s => (s.Training.Steps, s.Training.ValidationInterval, s.Training.CheckpointInterval) = (40, 1, 10));
        var seen = new List<(long Sequence, string Message)>();
        long cursor = 0, last = 0;
        for (var reconnection = 0; ; reconnection++)
        {
            harness.Workers.Limit = reconnection * 4;
            if (reconnection is 3 or 7)
            {
                await harness.RestartAsync();
            }

            using var timeout = new CancellationTokenSource(CoordinatorHarness.Patience);
            using var watch = harness.Runs.WatchRun(new WatchRunRequest { Name = "runs/some-run", AfterSequence = cursor }, cancellationToken: timeout.Token);
            Run? run = null;
            for (var message = 0; message < 2 && await watch.ResponseStream.MoveNext(timeout.Token); message++)
            {
                (cursor, run) = (watch.ResponseStream.Current.Sequence, watch.ResponseStream.Current.Run);
                var news = run.Events.Where(e => e.Sequence > last).ToList();
                seen.AddRange(news.Select(e => (e.Sequence, e.Message)));
                last = news.Count > 0 ? news[^1].Sequence : last;
            }

            if (run is not null && RunStates.IsTerminal(run.State))
            {
                Assert.Equal(run.Events.Select(e => (e.Sequence, e.Message)), seen);
                break;
            }
        }

        Assert.Equal(Enumerable.Range(1, seen.Count).Select(i => (long)i), seen.Select(e => e.Sequence));
    }

    [Theory]
    [InlineData(-1)]
    [InlineData(1)]
    public async Task AWorkersClockThatIsAnHourWrongChangesNothing(int hours)
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Workers.Limit = 5;
        var worker = harness.Workers.Start("worker-a");
        await harness.CreateAsync(change: s => s.Training.Steps = 1000);
        await harness.WaitAsync("step 5", r => r.Progress.Step == 5);

        // As long as the steps that are reported next say that they took.
        await Task.Delay(TimeSpan.FromSeconds(2));
        var wrong = DateTimeOffset.UtcNow.AddHours(hours);
        var request = new ReportProgressRequest { WorkerId = worker.Id, Run = "runs/some-run", Epoch = worker.Epoch, SentTime = wrong.ToTimestamp() };
        for (var step = 6; step <= 25; step++)
        {
            request.Metrics.Add(new StepMetrics { Step = step, TrainLoss = 2, TokenCount = step * 8, Time = (wrong - TimeSpan.FromSeconds((25 - step) * 0.1)).ToTimestamp() });
        }

        request.Events.Add(new RunEvent { Kind = "STEP_SKIPPED", Message = "Step 20.", Time = (wrong - TimeSpan.FromSeconds(0.5)).ToTimestamp() });
        await worker.ReportAsync(request);
        var run = await harness.GetAsync();
        Assert.InRange((DateTimeOffset.UtcNow - run.Events[^1].Time.ToDateTimeOffset()).TotalSeconds, 0, 60);
        Assert.InRange(run.Progress.TokensPerSecond, 8, 8000);
        Assert.All(run.Events.Zip(run.Events.Skip(1)), pair => Assert.True(pair.First.Sequence < pair.Second.Sequence));
    }

    [Fact]
    public async Task ACoordinatorWhoseClockJumpsLosesNobody()
    {
        var clock = new JumpingClock();
        await using var harness = await CoordinatorHarness.StartAsync();
        await harness.StopCoordinatorAsync();
        harness.Time = clock;
        await harness.StartCoordinatorAsync();
        harness.Workers.Limit = 5;
        harness.Workers.Start("worker-a");
        harness.Workers.Start("worker-b");
        await harness.CreateAsync();
        await harness.WaitAsync("step 5 with two", r => r.Progress.Step == 5 && r.Workers.Count == 2);
        clock.Offset = TimeSpan.FromHours(1);
        harness.Workers.Limit = 8;
        await harness.WaitAsync("step 8", r => r.Progress.Step == 8);
        clock.Offset = TimeSpan.FromHours(-1);
        harness.Workers.Limit = long.MaxValue;
        var run = await harness.WaitAsync(State.Succeeded);
        Assert.DoesNotContain(run.Events, e => e.Kind is RunEvents.WorkerLost or RunEvents.CoordinatorRestarted);
        Assert.Single(run.Events, e => e.Kind == RunEvents.EpochStarted);
    }

    [Fact]
    public async Task WhatANewerClientAsksForAndIsNotKnownIsRefused()
    {
        await using var harness = await CoordinatorHarness.StartAsync();

        // Field 1000 of the training part, as a newer version may have it.
        var newer = TrainingSpec.Parser.ParseFrom([.. new TrainingSpec { Steps = 12 }.ToByteArray(), 0xC0, 0x3E, 0x01]);
        var error = await Assert.ThrowsAsync<RpcException>(() => harness.CreateAsync(change: s => s.Training = newer));
        Assert.Equal(StatusCode.InvalidArgument, error.StatusCode);
        Assert.Contains("newer client", error.Status.Detail);

        // Elsewhere such a field is of no account: heartbeats of a newer worker, a record that a newer coordinator wrote.
        var (worker, _) = (harness.Workers.Start("worker-a"), await harness.CreateAsync());
        await harness.WaitAsync(State.Succeeded);
        var report = ReportProgressRequest.Parser.ParseFrom([.. new ReportProgressRequest { WorkerId = worker.Id, Run = "runs/some-run", Epoch = worker.Epoch }.ToByteArray(), 0xC0, 0x3E, 0x01]);
        Assert.Equal(StatusCode.Aborted, (await Assert.ThrowsAsync<RpcException>(() => worker.ReportAsync(report))).StatusCode);
        var (text, _) = (await harness.Store.TryReadTextAsync("runs/some-run/run.json"))!.Value;
        await harness.StopCoordinatorAsync();
        await harness.Store.WriteTextAsync("runs/some-run/run.json", text.Insert(text.IndexOf('{', StringComparison.Ordinal) + 1, "\"fromTheFuture\": {\"a\": 1},"));
        await harness.StartCoordinatorAsync();
        Assert.Equal(State.Succeeded, (await harness.GetAsync()).State);
    }

    private static bool IsOpen(WebApplication app) => app.Services.GetRequiredService<RunCatalog>().IsOpen;

    private static async Task<StatusCode> CreateAsync(int port, string id)
    {
        using var channel = Grpc.Net.Client.GrpcChannel.ForAddress($"http://127.0.0.1:{port}");
        try
        {
            await new RunService.RunServiceClient(channel).CreateRunAsync(new CreateRunRequest { RunId = id, Spec = CoordinatorHarness.Spec() }, deadline: DateTime.UtcNow.AddSeconds(30));
            return StatusCode.OK;
        }
        catch (RpcException exception)
        {
            return exception.StatusCode;
        }
    }

    private sealed class JumpingClock : TimeProvider
    {
        public TimeSpan Offset { get; set; }

        public override DateTimeOffset GetUtcNow() => base.GetUtcNow() + Offset;
    }
}
