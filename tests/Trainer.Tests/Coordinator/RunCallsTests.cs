using Grpc.Core;
using LlmPipeline.Fakes;
using LlmPipeline.Runs.V1;
using LlmPipeline.Trainer.Coordinator;
using Microsoft.Extensions.DependencyInjection;
using State = LlmPipeline.Runs.V1.Run.Types.State;

namespace LlmPipeline.Trainer.Tests.Coordinator;

public sealed class RunCallsTests
{
    [Fact]
    public async Task AHundredEqualRequestsMakeOneRunAndSoDoesOneAfterARestart()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Preprocessor.Hold();
        var request = new CreateRunRequest { Spec = CoordinatorHarness.Spec(), RequestId = Guid.NewGuid().ToString() };
        var names = await Task.WhenAll(Enumerable.Range(0, 100).Select(async _ => (await harness.Runs.CreateRunAsync(request)).Run.Name));
        var name = Assert.Single(names.Distinct());
        Assert.Matches("^runs/[a-z]+-[a-z]+-[0-9a-f]{4}$", name);
        await harness.RestartAsync();
        Assert.Equal(name, (await harness.Runs.CreateRunAsync(request)).Run.Name);
        request.RequestId = request.RequestId.ToUpperInvariant();
        Assert.Equal(name, (await harness.Runs.CreateRunAsync(request)).Run.Name);
        Assert.Single((await harness.Runs.ListRunsAsync(new ListRunsRequest())).Runs);
    }

    [Fact]
    public async Task ValidateOnlyShowsTheWholeSpecAndKeepsNothing()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        var run = (await harness.Runs.CreateRunAsync(new CreateRunRequest { ValidateOnly = true, RunId = "some-run", Spec = CoordinatorHarness.Spec() })).Run;
        Assert.Equal(RunSpecResolver.Resolve(CoordinatorHarness.Spec(), "some-run"), run.Spec);
        Assert.Empty((await harness.Runs.ListRunsAsync(new ListRunsRequest())).Runs);
        var exception = await Assert.ThrowsAsync<RpcException>(async () =>
            await harness.Runs.CreateRunAsync(new CreateRunRequest { ValidateOnly = true, Spec = CoordinatorHarness.Spec(s => s.Training.Steps = -1) }));
        Assert.Equal(StatusCode.InvalidArgument, exception.StatusCode);
    }

    [Fact]
    public async Task BadRequestsAreRefusedBeforeAnythingIsStored()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Preprocessor.Hold();
        await harness.CreateAsync();
        await RefusedAsync(StatusCode.AlreadyExists, "runs/some-run", new CreateRunRequest { RunId = "some-run", Spec = CoordinatorHarness.Spec() });
        await RefusedAsync(StatusCode.InvalidArgument, "run_id", new CreateRunRequest { RunId = "../run", Spec = CoordinatorHarness.Spec() });
        await RefusedAsync(StatusCode.InvalidArgument, "request_id", new CreateRunRequest { RequestId = "again", Spec = CoordinatorHarness.Spec() });
        await RefusedAsync(StatusCode.InvalidArgument, "spec is not set", new CreateRunRequest());
        await RefusedAsync(StatusCode.InvalidArgument, "training.steps", new CreateRunRequest { Spec = CoordinatorHarness.Spec(s => s.Training.Steps = -1) });
        Assert.Single((await harness.Runs.ListRunsAsync(new ListRunsRequest())).Runs);

        async Task RefusedAsync(StatusCode code, string text, CreateRunRequest request)
        {
            var exception = await Assert.ThrowsAsync<RpcException>(async () => await harness.Runs.CreateRunAsync(request));
            Assert.Equal(code, exception.StatusCode);
            Assert.Contains(text, exception.Status.Detail);
        }
    }

    [Fact]
    public async Task CallsOnRunsThatDoNotExistAreNotFoundAndBadNamesInvalid()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        foreach (var (name, code) in new[] { ("runs/other", StatusCode.NotFound), ("runs/../x", StatusCode.InvalidArgument), ("", StatusCode.InvalidArgument) })
        {
            Func<Task>[] calls =
            [
                async () => await harness.Runs.GetRunAsync(new GetRunRequest { Name = name }),
                async () => await harness.Runs.CancelRunAsync(new CancelRunRequest { Name = name }),
                async () => await harness.Runs.ResumeRunAsync(new ResumeRunRequest { Name = name }),
                async () => await harness.Runs.ListStepMetricsAsync(new ListStepMetricsRequest { Name = name }),
                async () => await harness.Runs.WatchRun(new WatchRunRequest { Name = name }).ResponseStream.MoveNext(default),
            ];
            foreach (var call in calls)
            {
                Assert.Equal(code, (await Assert.ThrowsAsync<RpcException>(call)).StatusCode);
            }
        }
    }

    [Fact]
    public async Task AListHasPagesNewestFirst()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Preprocessor.Hold();
        for (var i = 1; i <= 5; i++)
        {
            await harness.CreateAsync($"run-{i}");
        }

        var names = new List<string>();
        var token = "";
        do
        {
            var page = await harness.Runs.ListRunsAsync(new ListRunsRequest { PageSize = 2, PageToken = token });
            Assert.InRange(page.Runs.Count, 1, 2);
            names.AddRange(page.Runs.Select(r => r.Name));
            token = page.NextPageToken;
        }
        while (token.Length > 0);

        Assert.Equal(["runs/run-5", "runs/run-4", "runs/run-3", "runs/run-2", "runs/run-1"], names);
        Assert.Equal(StatusCode.InvalidArgument, (await Assert.ThrowsAsync<RpcException>(async () => await harness.Runs.ListRunsAsync(new ListRunsRequest { PageSize = -1 }))).StatusCode);
    }

    [Fact]
    public async Task AWatchThatIsResumedMissesNoState()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Preprocessor.Hold();
        await harness.CreateAsync();
        var seen = new List<State>();
        var sequence = 0L;
        await ReadAsync(1);
        harness.Preprocessor.Release();
        harness.Workers.Start("worker-a");
        await harness.WaitAsync(State.Succeeded);
        while (seen[^1] != State.Succeeded)
        {
            await ReadAsync(1);
        }

        State[] all = [State.Queued, State.Preparing, State.Training, State.Evaluating, State.Publishing, State.Succeeded];
        Assert.Equal(all.SkipWhile(s => s != seen[0]), seen.Distinct());

        async Task ReadAsync(int count)
        {
            using var watch = harness.Runs.WatchRun(new WatchRunRequest { Name = "runs/some-run", AfterSequence = sequence }, deadline: DateTime.UtcNow + CoordinatorHarness.Patience);
            for (var i = 0; i < count && await watch.ResponseStream.MoveNext(default); i++)
            {
                Assert.True(watch.ResponseStream.Current.Sequence > sequence);
                sequence = watch.ResponseStream.Current.Sequence;
                seen.Add(watch.ResponseStream.Current.Run.State);
            }
        }
    }

    [Fact]
    public async Task AWatchEndsAfterATerminalState()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Workers.Start("worker-a");
        await harness.CreateAsync();
        using var watch = harness.Runs.WatchRun(new WatchRunRequest { Name = "runs/some-run" }, deadline: DateTime.UtcNow + CoordinatorHarness.Patience);
        Run? last = null;
        await foreach (var message in watch.ResponseStream.ReadAllAsync(TestContext.Current.CancellationToken))
        {
            last = message.Run;
        }

        Assert.Equal(State.Succeeded, last!.State);
    }

    [Fact]
    public async Task StepMetricsComeInPages()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Workers.Start("worker-a");
        await harness.CreateAsync();
        await harness.WaitAsync(State.Succeeded);
        await harness.RestartAsync();
        var page = (await harness.Runs.ListStepMetricsAsync(new ListStepMetricsRequest { Name = "runs/some-run", AfterStep = 3, PageSize = 4 })).Metrics;
        Assert.Equal([4L, 5, 6, 7], page.Select(m => m.Step));
        Assert.Equal(FakeWorker.LossOf(5), page[1].ValidationLoss);
        Assert.False(page[0].HasValidationLoss);
    }

    [Fact]
    public async Task ASecondCoordinatorStandsByAndTakesOver()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Preprocessor.Hold();
        await harness.CreateAsync();
        await using var second = await harness.StartOneAsync(FreePort.Next());
        var runs = second.Services.GetRequiredService<RunCatalog>();
        await Task.Delay(300);
        Assert.False(runs.IsOpen);
        Assert.Equal(StatusCode.Unavailable, Assert.Throws<RpcException>(() => runs.Records).StatusCode);
        await harness.StopCoordinatorAsync();
        await CoordinatorHarness.WaitUntilAsync("the second one is in charge", () => runs.IsOpen);
        Assert.Single(runs.Records.All);
        await second.StopAsync();
        await harness.StartCoordinatorAsync();
    }
}
