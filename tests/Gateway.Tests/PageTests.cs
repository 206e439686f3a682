using System.Net;
using System.Text.Json.Nodes;
using LlmPipeline.Fakes;
using LlmPipeline.Runs.V1;
using LlmPipeline.ServiceDefaults;
using Microsoft.AspNetCore.Builder;

namespace LlmPipeline.Gateway.Tests;

public sealed class PageTests : IAsyncLifetime
{
    private readonly TemporaryFolder _storage = new();
    private readonly FakeRunService _runs = new();
    private WebApplication _trainer = null!;
    private GatewayHost _gateway = null!;

    public async ValueTask InitializeAsync()
    {
        (_trainer, var url) = await _runs.StartAsync();
        _gateway = await GatewayHost.StartAsync(_storage.Path, ("Trainer:Endpoint", url));
    }

    public async ValueTask DisposeAsync()
    {
        await _gateway.DisposeAsync();
        await _trainer.DisposeAsync();
        _storage.Dispose();
    }

    [Theory]
    [InlineData("/", "text/html")]
    [InlineData("/app.js", "text/javascript")]
    [InlineData("/chart.js", "text/javascript")]
    [InlineData("/playground.js", "text/javascript")]
    [InlineData("/style.css", "text/css")]
    [InlineData("/icon.svg", "image/svg+xml")]
    public async Task ThePageIsServedWithHeadersThatKeepItToItself(string path, string type)
    {
        var response = await _gateway.Http.GetAsync(path);
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        Assert.Equal(type, response.Content.Headers.ContentType?.MediaType);
        Assert.StartsWith("default-src 'none'; script-src 'self'; style-src 'self'", response.Headers.GetValues("Content-Security-Policy").Single(), StringComparison.Ordinal);
        Assert.Equal("nosniff", response.Headers.GetValues("X-Content-Type-Options").Single());
        Assert.Equal("DENY", response.Headers.GetValues("X-Frame-Options").Single());
        Assert.False(response.Headers.Contains("Server"));
    }

    [Fact]
    public async Task ThePageNeedsNothingFromElsewhereAndHasNoInlineCode()
    {
        var html = await _gateway.Http.GetStringAsync("/");
        Assert.DoesNotContain("://", html, StringComparison.Ordinal);
        Assert.DoesNotContain("style=", html, StringComparison.Ordinal);
        Assert.DoesNotMatch("<script(?![^>]* src=)", html);
        Assert.DoesNotMatch("\\son[a-z]+=", html);
        foreach (var script in (string[])["/app.js", "/chart.js", "/playground.js"])
        {
            Assert.DoesNotMatch("innerHTML|outerHTML|insertAdjacentHTML|document\\.write|eval\\(", await _gateway.Http.GetStringAsync(script));
        }
    }

    [Fact]
    public async Task RunsAndTheirNumbersAreThereAsJson()
    {
        _runs.Runs["runs/run-1"] = new Run
        {
            Name = "runs/run-1",
            State = Run.Types.State.Training,
            Spec = new RunSpec { Seed = 1 },
            CreateTime = new(),
            Progress = new RunProgress { Step = 2, TrainLoss = 3.5 },
            Events = { new RunEvent { Kind = "STATE_CHANGED", Message = "training" } },
        };
        _runs.Metrics["runs/run-1"] = [new StepMetrics { Step = 1, TrainLoss = 4 }, new StepMetrics { Step = 2, TrainLoss = 3.5, ValidationLoss = 3.6 }];

        var listed = (await GetAsync("/api/runs"))["runs"]![0]!;
        Assert.Equal("STATE_TRAINING", (string?)listed["state"]);
        Assert.Empty(listed["events"]!.AsArray());
        var run = (await GetAsync("/api/runs/run-1"))["run"]!;
        Assert.Equal(3.5, (double?)run["progress"]!["trainLoss"]);
        Assert.Equal("training", (string?)run["events"]![0]!["message"]);
        var metrics = (await GetAsync("/api/runs/run-1/metrics?after=1"))["metrics"]!.AsArray();
        Assert.Equal(3.6, (double?)Assert.Single(metrics)!["validationLoss"]);
    }

    [Fact]
    public async Task AnUnknownRunIsNotFoundAndATrainerThatIsGoneIsNamed()
    {
        var response = await _gateway.Http.GetAsync("/api/runs/nothing");
        Assert.Equal(HttpStatusCode.NotFound, response.StatusCode);
        await _trainer.StopAsync();
        response = await _gateway.Http.GetAsync("/api/runs");
        Assert.Equal(HttpStatusCode.ServiceUnavailable, response.StatusCode);
        Assert.Contains("The Trainer does not answer", await response.Content.ReadAsStringAsync(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task MetricsComeInPagesThatFitIntoAMessage()
    {
        _runs.Metrics["runs/run-1"] = [.. Enumerable.Range(1, 1500).Select(i => new StepMetrics { Step = i, Samples = { new TextSample { Text = new string('x', 5000) } } })];
        Assert.Equal(1000, (await GetAsync("/api/runs/run-1/metrics"))["metrics"]!.AsArray().Count);
        Assert.Equal(500, (await GetAsync("/api/runs/run-1/metrics?after=1000"))["metrics"]!.AsArray().Count);
    }

    [Fact]
    public async Task RunsThatDoNotFitIntoAMessageAreCalledThat()
    {
        var run = new Run { Name = "runs/run-1", CreateTime = new(), Events = { new RunEvent { Message = new string('x', 5 << 20) } } };
        _runs.Runs[run.Name] = run;
        Assert.Equal(run.Name, (string?)(await GetAsync("/api/runs"))["runs"]![0]!["name"]);
        run.Events[0].Message = new string('x', GrpcDefaults.MaxMessageBytes);
        var response = await _gateway.Http.GetAsync("/api/runs");
        Assert.Equal(HttpStatusCode.BadGateway, response.StatusCode);
        Assert.Contains("The Trainer's answer is too large", JsonNode.Parse(await response.Content.ReadAsStringAsync())!["error"]!["message"]!.GetValue<string>(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task HealthSaysThatStorageIsThere()
    {
        Assert.Equal(HttpStatusCode.OK, (await _gateway.Http.GetAsync("/health/live")).StatusCode);
        Assert.Equal(HttpStatusCode.OK, (await _gateway.Http.GetAsync("/health/ready")).StatusCode);
    }

    private async Task<JsonNode> GetAsync(string path) => JsonNode.Parse(await _gateway.Http.GetStringAsync(path))!;
}
