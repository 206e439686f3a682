using Google.Protobuf.WellKnownTypes;
using LlmPipeline.Evaluations.V1;
using LlmPipeline.Fakes;
using LlmPipeline.Runs.V1;

namespace LlmPipeline.Gateway.Tests;

/// <summary>The page in a real browser. <c>LLMPIPELINE_SCREENSHOTS</c> names a folder for pictures of it.</summary>
public sealed class BrowserTests
{
    private static readonly string[] Browsers = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

    [Fact]
    public async Task ThePageShowsRunsAndStreamsTextThatStaysText()
    {
        var browser = Browsers.FirstOrDefault(File.Exists);
        Assert.SkipWhen(browser is null, "Install chromium to test the page in a browser.");
        using var storage = new TemporaryFolder();
        await TinyModel.PublishAsync(storage.Path, says: "<script>alert(1)</script> ");
        var runs = new FakeRunService();
        AddTrainingRun(runs);
        AddFinishedRun(runs);
        AddClassifier(runs);
        AddMaskedRun(runs);
        AddFailedRun(runs);
        var (trainer, url) = await runs.StartAsync();
        await using var disposeTrainer = trainer;
        await using var gateway = await GatewayHost.StartAsync(storage.Path, ("Trainer:Endpoint", url), ("Gateway:MaxTokens", "100000"));
        await NodeScript.RunAsync(
            "playwright-core", "1.65.1", "page.mjs", browser!, gateway.Url, Environment.GetEnvironmentVariable("LLMPIPELINE_SCREENSHOTS") ?? "");
    }

    private static void AddTrainingRun(FakeRunService runs)
    {
        var run = Add(runs, "shakespeare", Run.Types.State.Training, DateTime.UtcNow.AddMinutes(-3), steps: 1340, of: 2000);
        run.Progress.TokensPerSecond = 48_250;
        run.Progress.RemainingSeconds = 95;
        run.Workers.Add(new RunWorker { WorkerId = "worker-0-5f2c", Rank = 0, Device = "cpu" });
        run.Workers.Add(new RunWorker { WorkerId = "worker-1-91ab", Rank = 1, Device = "cpu" });

        // Losses that are not finite come as text.
        var metrics = runs.Metrics[run.Name];
        metrics[0].TrainLoss = metrics[499].TrainLoss = metrics[^1].TrainLoss = double.NaN;
        metrics[700].TrainLoss = double.PositiveInfinity;
        metrics[99].ValidationLoss = double.NaN;
    }

    private static void AddFinishedRun(FakeRunService runs)
    {
        var run = Add(runs, "dotnet-docs", Run.Types.State.Succeeded, DateTime.UtcNow.AddHours(-2), steps: 600, of: 600);
        run.ModelVersion = "models/dotnet-docs/versions/1";
        run.Evaluation = new EvaluationResult
        {
            Model = new ModelQuality { TokenCount = 111_540, Loss = 1.8832, Perplexity = 6.57, BitsPerByte = 2.7169, Accuracy = 0.447, Bleu = 4.12 },
            Ngram = new ModelQuality { TokenCount = 111_540, Loss = 2.1304, Perplexity = 8.42, BitsPerByte = 3.0735, Accuracy = 0.391, Bleu = 4.4 },
            NgramOrder = 3,
            TokensPerSecond = 121_000,
            Split = "validation",
        };
    }

    private static void AddClassifier(FakeRunService runs)
    {
        const string Label = "<b>good</b>";
        var run = Add(runs, "reviews", Run.Types.State.Succeeded, DateTime.UtcNow.AddHours(-3), steps: 100, of: 100);
        run.Labels.AddRange(["bad", Label]);
        run.Evaluation = new EvaluationResult
        {
            Model = new ModelQuality { TokenCount = 5, Loss = 0.25, Perplexity = 1.28, Accuracy = 0.8 },
            TokensPerSecond = 900,
            Split = "test",
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
        };
    }

    private static void AddMaskedRun(FakeRunService runs)
    {
        var (old, present) = (new ModelQuality { Loss = 3, Perplexity = 20.0856 }, new ModelQuality { Loss = 2, Perplexity = 7.3891 });
        var run = Add(runs, "filled-gaps", Run.Types.State.Succeeded, DateTime.UtcNow.AddHours(-4), steps: 100, of: 100);
        run.Spec.Model.Objective = "masked";
        run.Evaluation = new EvaluationResult
        {
            Model = new ModelQuality { TokenCount = 1500, Loss = 2, Perplexity = 7.3891, Accuracy = 0.5, Objective = "masked" },
            TokensPerSecond = 900,
            Split = "validation",
            Forgetting = new Forgetting { BaseOld = present, BaseNew = old, ModelOld = old, ModelNew = present },
        };
    }

    private static void AddFailedRun(FakeRunService runs)
    {
        var run = Add(runs, "no-such-text", Run.Types.State.Failed, DateTime.UtcNow.AddDays(-1), steps: 0, of: 100);
        run.Error = new RunError { Reason = "SOURCE_NOT_FOUND", Message = "'texts/*.txt' matches no file. Give a path that exists." };
    }

    private static Run Add(FakeRunService runs, string id, Run.Types.State state, DateTime created, int steps, int of)
    {
        var random = new Random(1);
        var metrics = new List<StepMetrics>();
        for (var step = 1; step <= steps; step++)
        {
            var loss = 1.6 + (2.6 * Math.Exp(-step / 180.0)) + (random.NextDouble() * 0.16);
            var m = new StepMetrics { Step = step, TrainLoss = loss };
            if (step % 100 == 0)
            {
                m.ValidationLoss = loss + 0.08;
            }

            metrics.Add(m);
        }

        var run = new Run
        {
            Name = $"runs/{id}",
            State = state,
            Attempt = 1,
            Dataset = "datasets/text",
            CreateTime = Timestamp.FromDateTime(created),
            Spec = new RunSpec { Model = new ModelSpec { Layers = 4, Width = 192, Context = 128 } },
            Progress = new RunProgress { Step = steps, TotalSteps = of, TokenCount = steps * 4096, Fraction = (double)steps / of, TrainSeconds = steps * 0.085 },
            Events =
            {
                Event(created, "STATE_CHANGED", "The dataset is being prepared."),
                Event(created.AddSeconds(14), "EPOCH_STARTED", "Epoch 1 started with 2 workers."),
                Event(created.AddSeconds(50), "CHECKPOINT_WRITTEN", "Checkpoint of step 250 was written."),
                Event(created.AddSeconds(61), "WORKER_LOST", "worker-2-77aa was lost: the others go on from step 312."),
            },
        };
        if (metrics.Count > 0)
        {
            run.Progress.TrainLoss = metrics[^1].TrainLoss;
            run.Progress.ValidationLoss = run.Progress.BestValidationLoss = metrics.Last(m => m.HasValidationLoss).ValidationLoss;
        }

        runs.Runs[run.Name] = run;
        runs.Metrics[run.Name] = metrics;
        return run;
    }

    private static RunEvent Event(DateTime time, string kind, string message) => new() { Time = Timestamp.FromDateTime(time), Kind = kind, Message = message };
}
