using System.Text.Json.Nodes;
using System.Xml.Linq;
using Grpc.Core;
using LlmPipeline.Evaluations.V1;
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
        var some = new SvgChart { Title = "t", YLabel = "y", IsLogarithmic = true, Series = [new("s", [(1, 2), (2, double.NaN), (3, double.PositiveInfinity), (4, 3)])] }.ToSvg();
        Assert.DoesNotMatch("NaN|Infinity", some);
        Assert.Contains("polyline", some);
    }

    [Theory]
    [InlineData(0.1, 1300, ">0.1<")]
    [InlineData(0.1, 3001, ">0.1<")]
    [InlineData(0.1, 5000, ">0.1<")]
    [InlineData(0.1, 10_000, ">0.1<")]
    [InlineData(1e-4, 5000, ">1e-4<")]
    [InlineData(1e-4, 10_000, ">1e-4<")]
    public async Task AChartOfAConstantEnds(double value, int steps, string label)
    {
        var series = new ChartSeries("learning rate", [.. Enumerable.Range(1, steps).Select(i => ((double)i, value))]);
        foreach (var isLogarithmic in (bool[])[false, true])
        {
            var chart = new SvgChart { Title = "Learning rate", YLabel = "per step", IsLogarithmic = isLogarithmic, Series = [series] };
            Assert.Contains(label, await Task.Run(() => chart.ToSvg()).WaitAsync(TinyRun.Timeout));
        }
    }

    [Fact]
    public void AClassifiersReportHasItsClassesAndNothingThatIsSaidOfText()
    {
        const string Label = "a|b\n<i>\\";
        var report = Markdown(new EvaluationResult
        {
            Split = "test",
            Model = new ModelQuality { TokenCount = 5, Loss = 0.25, Perplexity = 1.28, Accuracy = 0.8 },
            Classification = new ClassificationQuality
            {
                Accuracy = 0.8,
                MacroF1 = 0.8,
                MajorityAccuracy = 0.6,
                MajorityLabel = Label,
                Classes =
                {
                    new ClassQuality { Label = "bad", DocumentCount = 2, Precision = 2 / 3.0, Recall = 1, F1 = 0.8, PredictedCounts = { 2, 0 } },
                    new ClassQuality { Label = Label, DocumentCount = 3, Precision = 1, Recall = 2 / 3.0, F1 = 0.8, PredictedCounts = { 1, 2 } },
                },
            },
        });
        Assert.Contains("""
            ## Evaluation on test

            |  | documents | precision | recall | F1 | taken for bad | taken for a\|b \<i>\\ |
            | --- | --- | --- | --- | --- | --- | --- |
            | bad | 2 | 66.7 % | 100.0 % | 80.0 % | 2 | 0 |
            | a\|b \<i>\\ | 3 | 100.0 % | 66.7 % | 80.0 % | 1 | 2 |

            Accuracy 80.0 %, macro F1 80.0 %, loss 0.2500 nats a document; always 'a\|b \<i>\\' would be 60.0 %.
            """.ReplaceLineEndings("\n"), report);
        Assert.DoesNotMatch("perplexity|bits per byte", report);
    }

    [Fact]
    public void AMaskedModelsReportNamesItsFiguresAndWhatWasForgotten()
    {
        var (old, present) = (new ModelQuality { Loss = 3, Perplexity = 20.0856 }, new ModelQuality { Loss = 2, Perplexity = 7.3891 });
        var report = Markdown(new EvaluationResult
        {
            Split = "validation",
            Model = new ModelQuality { TokenCount = 1500, Loss = 2, Perplexity = 7.3891, Accuracy = 0.5, Objective = "masked" },
            Forgetting = new Forgetting { BaseOld = present, BaseNew = old, ModelOld = old, ModelNew = present },
        });
        Assert.Contains("|  | loss (nats/masked token) | pseudo-perplexity | masked-token accuracy | masked tokens |", report);
        Assert.Contains("| model | 2.0000 | 7.389 | 0.5000 | 1,500 |", report);
        Assert.Contains("| loss (pseudo-perplexity) | old dataset | new dataset |", report);
        Assert.Contains("| base | 2.0000 (7.389) | 3.0000 (20.086) |", report);
        Assert.Contains("| fine-tuned | 3.0000 (20.086) | 2.0000 (7.389) |", report);
        Assert.DoesNotContain("bits per byte", report);
    }

    [Fact]
    public void ALanguageModelsReportHasItsFiguresBesideTheNgrams()
    {
        var report = Markdown(new EvaluationResult
        {
            Split = "validation",
            Model = new ModelQuality { TokenCount = 1500, Loss = 2, Perplexity = 7.3891, BitsPerByte = 1.25, Accuracy = 0.5, Bleu = 3.5 },
            Ngram = new ModelQuality { TokenCount = 1500, Loss = 3, Perplexity = 20.0856, BitsPerByte = 1.5, Accuracy = 0.25 },
            NgramOrder = 3,
        });
        Assert.Contains("|  | loss (nats/token) | perplexity | bits per byte | next-token accuracy | BLEU of continuations | tokens |", report);
        Assert.Contains("| model | 2.0000 | 7.389 | 1.2500 | 0.5000 | 3.50 | 1,500 |", report);
        Assert.Contains("| 3-gram, Kneser-Ney | 3.0000 | 20.086 | 1.5000 | 0.2500 |  | 1,500 |", report);
    }

    [Fact]
    public void TheReportSaysThePrecisionAndWhatAutoChose()
    {
        var run = new Run { Name = "runs/some-run", State = State.Training, Spec = new RunSpec { Training = new TrainingSpec { Precision = "auto" } } };
        Assert.Contains("| precision | auto |", Markdown(run));
        RunEvents.Add(run, RunEvents.PrecisionChosen, "Training is in bf16: it is faster.", DateTimeOffset.UnixEpoch);
        for (var i = 0; i < 300; i++)
        {
            RunEvents.Add(run, RunEvents.Validated, $"{i}", DateTimeOffset.UnixEpoch);
        }

        Assert.Contains("| precision | Training is in bf16: it is faster. |", Markdown(run));
    }

    private static string Markdown(EvaluationResult evaluation) => Markdown(new Run { Name = "runs/some-run", State = State.Succeeded, Spec = new RunSpec(), Evaluation = evaluation });

    private static string Markdown(Run run) => new RunReport(run, []).Files().Single(f => f.Path == RunReport.MarkdownFile).Text;
}
