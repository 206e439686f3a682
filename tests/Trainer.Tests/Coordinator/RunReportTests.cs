using System.Text.Json.Nodes;
using System.Xml.Linq;
using Grpc.Core;
using LlmPipeline.Runs.V1;
using LlmPipeline.Storage;
using LlmPipeline.Trainer.Coordinator;
using LlmPipeline.Trainer.Coordinator.Reports;
using State = LlmPipeline.Runs.V1.Run.Types.State;

namespace LlmPipeline.Trainer.Tests.Coordinator;

public sealed class RunReportTests
{
    [Fact]
    public async Task ARunThatIsOverHasAReportWithCurves()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Workers.Start("worker-a");
        await harness.CreateAsync();
        var run = await harness.WaitAsync(State.Succeeded);
        var files = (await harness.Runs.GetRunReportAsync(new GetRunReportRequest { Name = run.Name })).Files.ToDictionary(f => f.Path, f => f.Text);
        var markdown = files["report.md"];
        Assert.StartsWith("# runs/some-run\n\nSucceeded: models/", markdown);
        foreach (var expected in (string[])["## Validations", "## Events", "## Configuration", "worker-a", "TRAINING_FINISHED", "\"batch_size\"", "![Loss](curves/loss.svg)"])
        {
            Assert.Contains(expected, markdown);
        }

        var json = JsonNode.Parse(files["report.json"])!;
        Assert.Equal(12, json["steps"]!.AsArray().Count);
        Assert.Equal("STATE_SUCCEEDED", json["run"]!["state"]!.GetValue<string>());
        Assert.Equal(4, files.Keys.Count(f => f.StartsWith("curves/", StringComparison.Ordinal)));
        Assert.All(files.Where(f => f.Key.EndsWith(".svg", StringComparison.Ordinal)), f => Assert.Equal("svg", XDocument.Parse(f.Value).Root!.Name.LocalName));
        Assert.Contains("polyline", files["curves/loss.svg"]);

        // It is written a moment after the run is over.
        for (var wait = 0; await harness.Store.TryReadTextAsync("runs/some-run/curves/tokens_per_second.svg") is null && wait < 200; wait++)
        {
            await Task.Delay(25);
        }

        Assert.Equal(markdown, (await harness.Store.TryReadTextAsync("runs/some-run/report.md"))!.Value.Text);
    }

    [Fact]
    public async Task ARunThatFailedHasAReportOfHowFarItCame()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Workers.Limit = 5;
        var worker = harness.Workers.Start("worker-a");
        await harness.CreateAsync();
        await harness.WaitAsync("step 5", r => r.Progress.Step == 5);
        worker.Fail("", new RunError { Reason = "LOSS_SPIKE", Message = "Step 6, the loss is too high." });
        await harness.WaitAsync(State.Failed);
        var report = (await harness.Runs.GetRunReportAsync(new GetRunReportRequest { Name = "runs/some-run" })).Files[0].Text;
        Assert.Contains("Failed: Step 6, the loss is too high. (LOSS_SPIKE)", report);
        Assert.Contains("| steps | 5 of 12 |", report);
    }

    [Fact]
    public async Task AReportOfNoRunIsNotFound()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        var error = await Assert.ThrowsAsync<RpcException>(() => harness.Runs.GetRunReportAsync(new GetRunReportRequest { Name = "runs/no-such-run" }).ResponseAsync);
        Assert.Equal(StatusCode.NotFound, error.StatusCode);
    }

    [Fact]
    public async Task ADamagedCheckpointIsToldOfAndTheOneBeforeIsUsed()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Workers.Limit = 8;
        harness.Workers.Start("worker-a");
        await harness.CreateAsync();
        await harness.WaitAsync("step 8", r => r.Progress.Step == 8);
        await harness.Runs.CancelRunAsync(new CancelRunRequest { Name = "runs/some-run" });
        await harness.WaitAsync(State.Cancelled);
        var newest = await Checkpoints.ListAsync(harness.Store, "runs/some-run", CancellationToken.None);
        Assert.True(newest.Count >= 2);
        var path = harness.Store.TryGetLocalPath($"{newest[^1].Name}/model.safetensors")!;
        var bytes = await File.ReadAllBytesAsync(path);
        bytes[^1] ^= 1;
        await File.WriteAllBytesAsync(path, bytes);

        harness.Workers.Limit = long.MaxValue;
        await harness.Runs.ResumeRunAsync(new ResumeRunRequest { Name = "runs/some-run" });
        var run = await harness.WaitAsync(State.Succeeded);
        Assert.Contains(newest[^1].Name, Assert.Single(run.Events, e => e.Kind == RunEvents.CheckpointDamaged).Message);
        Assert.Equal(newest[^2].Name, harness.Workers.Plans.First(p => p.Plan.Attempt == 2).Plan.Checkpoint);
        Assert.Equal(Enumerable.Range(1, 12).Select(i => (long)i), (await harness.MetricsAsync()).Select(m => m.Step));
    }

    [Fact]
    public void AChartWithoutStepsOrWithNumbersThatAreNoneIsStillOne()
    {
        Assert.Contains("no steps", new SvgChart { Title = "<a & b>", YLabel = "y", Series = [new("s", [(1, double.NaN)])] }.ToSvg());
        var one = new SvgChart { Title = "<a & b>", YLabel = "y", Series = [new("s", [(1, 2)])] }.ToSvg();
        Assert.Contains("circle", one);
        Assert.DoesNotContain("NaN", one);
        Assert.Equal("svg", XDocument.Parse(one).Root!.Name.LocalName);
    }
}
