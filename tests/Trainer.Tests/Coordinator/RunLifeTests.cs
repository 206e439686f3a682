using Grpc.Core;
using LlmPipeline.Datasets.V1;
using LlmPipeline.Evaluations.V1;
using LlmPipeline.Models;
using LlmPipeline.Runs.V1;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;
using LlmPipeline.Text;
using LlmPipeline.Trainer.Coordinator;
using State = LlmPipeline.Runs.V1.Run.Types.State;

namespace LlmPipeline.Trainer.Tests.Coordinator;

public sealed class RunLifeTests
{
    [Fact]
    public async Task ARunGoesThroughItsStagesToAPublishedModel()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Workers.Start("worker-a");
        var created = await harness.CreateAsync();
        Assert.Equal((State.Queued, 1), (created.State, created.Attempt));
        Assert.Matches("^[0-9a-f]{32}$", created.TraceId);
        var run = await harness.WaitAsync(State.Succeeded);

        Assert.Equal(["QUEUED", "QUEUED -> PREPARING", "PREPARING -> TRAINING", "TRAINING -> EVALUATING", "EVALUATING -> PUBLISHING", "PUBLISHING -> SUCCEEDED"],
            run.Events.Where(e => e.Kind == RunEvents.StateChanged).Select(e => e.Message));
        Assert.Equal(("datasets/some-data", "runs/some-run/checkpoints/00000012", "runs/some-run/checkpoints/00000012", "models/some-run/versions/1"),
            (run.Dataset, run.LatestCheckpoint, run.BestCheckpoint, run.ModelVersion));
        Assert.Equal("/text/a.txt", run.Spec.Dataset.Sources.Single());
        Assert.Equal((12L, 12L, 96L, 1.0), (run.Progress.Step, run.Progress.TotalSteps, run.Progress.TokenCount, run.Progress.Fraction));
        Assert.Equal(FakeWorker.LossOf(12), run.Progress.TrainLoss);
        Assert.Equal(FakeWorker.LossOf(12), run.Progress.BestValidationLoss);
        Assert.Equal("evaluations/some-evaluation", run.Evaluation.Name);
        Assert.NotNull(run.EndTime);
        Assert.Equal(Enumerable.Range(1, 12).Select(i => (long)i), (await harness.MetricsAsync()).Select(m => m.Step));

        var request = harness.Evaluator.Requests.Single();
        Assert.Equal(("runs/some-run/checkpoints/00000012", "datasets/some-data", "validation", 64, 32, 3),
            (request.Model, request.Dataset, request.Split, request.BleuSamples, request.BleuTokens, request.NgramOrder));

        var manifest = (await harness.Store.TryReadManifestAsync(run.ModelVersion))!;
        Assert.Equal(["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"], manifest.Files.Select(f => f.Name));
        Assert.Equal(TinyModelFiles.ParameterCount, manifest.Properties["parameter_count"]!.GetValue<long>());
        Assert.Equal(8, manifest.Properties["context"]!.GetValue<int>());
        Assert.Equal(2.0, manifest.Properties["loss"]!.GetValue<double>());
        Assert.All((string[])["run", "checkpoint", "dataset", "evaluation", "perplexity", "traceparent", "code_version", "create_time", "attempt", "step"],
            key => Assert.NotNull(manifest.Properties[key]));
    }

    [Fact]
    public async Task CallsToOtherServicesBelongToTheTraceOfTheRun()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        // Whoever listens, as OpenTelemetry does, makes the spans be made.
        using var listener = new System.Diagnostics.ActivityListener
        {
            ShouldListenTo = s => s.Name == TrainerMetrics.Name,
            Sample = (ref System.Diagnostics.ActivityCreationOptions<System.Diagnostics.ActivityContext> _) => System.Diagnostics.ActivitySamplingResult.AllDataAndRecorded,
        };
        System.Diagnostics.ActivitySource.AddActivityListener(listener);
        harness.Preprocessor.Hold();
        var run = await harness.CreateAsync();
        await harness.WaitAsync("progress", r => r.Progress.Fraction == 0.25);
        Assert.Equal([run.TraceId], harness.Preprocessor.TraceIds);
        Assert.Contains(run.TraceId, run.Traceparent);
    }

    [Fact]
    public async Task RunsTakeTurnsInOrderOfCreation()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Preprocessor.Hold();
        await harness.CreateAsync("run-1");
        await harness.CreateAsync("run-2");
        await harness.CreateAsync("run-3");
        await harness.WaitAsync(State.Preparing, "run-1");
        Assert.Equal(State.Queued, (await harness.GetAsync("run-2")).State);
        harness.Preprocessor.Release();
        harness.Workers.Start("worker-a");
        var ends = new List<DateTime>();
        foreach (var id in (string[])["run-1", "run-2", "run-3"])
        {
            ends.Add((await harness.WaitAsync(State.Succeeded, id)).EndTime.ToDateTime());
        }

        Assert.Equal(ends.Order(), ends);
        Assert.Equal(["runs/run-3", "runs/run-2", "runs/run-1"], (await harness.Runs.ListRunsAsync(new ListRunsRequest())).Runs.Select(r => r.Name));
    }

    [Fact]
    public async Task TheErrorOfADatasetIsThatOfTheRun()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Preprocessor.Failure = new DatasetError { Reason = "SOURCE_EMPTY", Message = "a.txt has no text. Name another file." };
        await harness.CreateAsync();
        var run = await harness.WaitAsync(State.Failed);
        Assert.Equal(("SOURCE_EMPTY", "a.txt has no text. Name another file."), (run.Error.Reason, run.Error.Message));

        harness.Preprocessor.Refusal = RpcErrors.Create(StatusCode.InvalidArgument, "SOURCE_NOT_FOUND", "b.txt does not exist.");
        await harness.CreateAsync("run-2");
        run = await harness.WaitAsync(State.Failed, "run-2");
        Assert.Equal("SOURCE_NOT_FOUND", run.Error.Reason);
        Assert.Contains("b.txt does not exist.", run.Error.Message);
    }

    [Fact]
    public async Task ADatasetThatIsNotEnoughIsToldBeforeTraining()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        await harness.CreateAsync("run-1", s => s.Model = new ModelSpec { Context = 1000 });
        Assert.Contains("has 1000 tokens to train on, but a sample needs 1001", (await harness.WaitAsync(State.Failed, "run-1")).Error.Message);

        harness.Preprocessor.ValidationTokens = 0;
        await harness.CreateAsync("run-2");
        Assert.Contains("has no validation split", (await harness.WaitAsync(State.Failed, "run-2")).Error.Message);
    }

    [Fact]
    public async Task AnOldDatasetIsLookedAtBeforeTraining()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        using (var replica = TinyRun.NewReplica(TinyRun.Spec()))
        {
            var directory = harness.Store.CreateDirectory("models/base/versions/1");
            await ModelDirectory.WriteAsync(directory, replica.Model, CharacterTokenizer.Create("abcdefghijklmnopqrstuvwxyz ,".EnumerateRunes()).ToJson());
            await directory.CommitAsync();
        }

        var failed = await TuneAsync("run-1", "datasets/none");
        Assert.Equal("NOT_FOUND", failed.Error.Reason);
        Assert.Contains("datasets/none", failed.Error.Message);
        harness.Preprocessor.Labels = ["bad", "good"];
        Assert.Contains("fine_tune.old_dataset 'datasets/some-data' has documents with labels", (await TuneAsync("run-2", "datasets/some-data")).Error.Message);
        Assert.Equal(0, harness.Preprocessor.CreateCount);

        async Task<Run> TuneAsync(string id, string old)
        {
            await harness.CreateAsync(id, s => (s.Model, s.FineTune) = (null, new FineTuneSpec { Base = "models/base", OldDataset = old }));
            return await harness.WaitAsync(State.Failed, id);
        }
    }

    [Fact]
    public async Task DocumentsWithLabelsNeedNotFillTheContext()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        (harness.Preprocessor.Labels, harness.Preprocessor.TrainTokens) = (["bad", "good"], 5);
        harness.Workers.Start("worker-a");
        await harness.CreateAsync("run-1", s => (s.Dataset, s.DatasetName) = (null, "datasets/some-data"));
        var run = await harness.WaitAsync(State.Succeeded, "run-1");
        Assert.Equal(["bad", "good"], run.Labels);
        Assert.Contains(run.Events, e => e.Kind == RunEvents.Validated && e.Message.Contains(" nats a document", StringComparison.Ordinal));

        harness.Preprocessor.TrainTokens = 0;
        await harness.CreateAsync("run-2");
        Assert.Contains("has 0 tokens to train on, but a sample needs 1.", (await harness.WaitAsync(State.Failed, "run-2")).Error.Message);
    }

    [Fact]
    public async Task ANamedDatasetIsUsedAndAMissingOneIsNamed()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Workers.Start("worker-a");
        await harness.CreateAsync("run-1", s => (s.Dataset, s.DatasetName) = (null, "datasets/some-data"));
        var run = await harness.WaitAsync(State.Succeeded, "run-1");
        Assert.Null(run.Spec.Dataset);
        Assert.Equal(0, harness.Preprocessor.CreateCount);

        await harness.CreateAsync("run-2", s => (s.Dataset, s.DatasetName) = (null, "datasets/other"));
        run = await harness.WaitAsync(State.Failed, "run-2");
        Assert.Equal("NOT_FOUND", run.Error.Reason);
        Assert.Contains("datasets/other", run.Error.Message);
    }

    [Fact]
    public async Task AServiceThatIsAwayForAWhileIsWaitedFor()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Preprocessor.UnavailableCalls = 2;
        harness.Workers.Start("worker-a");
        await harness.CreateAsync();
        var run = await harness.WaitAsync(State.Succeeded);
        Assert.Equal([RunEvents.ServiceUnreachable, RunEvents.ServiceAnswers], run.Events.Select(e => e.Kind).Where(k => k.StartsWith("SERVICE", StringComparison.Ordinal)));
    }

    [Fact]
    public async Task AServiceThatStaysAwayFailsTheRunAndAResumeGoesOnWhenItIsBack()
    {
        await using var harness = await CoordinatorHarness.StartAsync(("Coordinator:PatienceSeconds", "0.5"));
        await harness.StopServicesAsync();
        await harness.CreateAsync();
        var run = await harness.WaitAsync(State.Failed);
        Assert.Equal("UNAVAILABLE", run.Error.Reason);
        Assert.Contains("The Preprocessor", run.Error.Message);
        Assert.Contains("Start it, then resume the run", run.Error.Message);

        await harness.StartServicesAsync();
        harness.Workers.Start("worker-a");
        await harness.Runs.ResumeRunAsync(new ResumeRunRequest { Name = run.Name });
        run = await harness.WaitAsync(State.Succeeded);
        Assert.Equal(2, run.Attempt);
        Assert.Null(run.Error);
    }

    [Fact]
    public async Task AModelThatDoesNotPassTheGateIsNotPublished()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Workers.Start("worker-a");
        await harness.CreateAsync("run-1", s => s.Publish = new PublishSpec { MaxLoss = 1.99 });
        var run = await harness.WaitAsync(State.Failed, "run-1");
        Assert.Equal("GATE_NOT_PASSED", run.Error.Reason);
        Assert.Contains("2.0000", run.Error.Message);
        Assert.Equal(2, run.Evaluation.Model.Loss);
        Assert.Equal("", run.ModelVersion);

        harness.Evaluator.Loss = double.NaN;
        await harness.CreateAsync("run-2", s => s.Publish = new PublishSpec { MaxLoss = 1e6 });
        Assert.Equal("GATE_NOT_PASSED", (await harness.WaitAsync(State.Failed, "run-2")).Error.Reason);
    }

    [Fact]
    public async Task TheErrorOfAnEvaluationIsThatOfTheRun()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Evaluator.Failure = new EvaluationError { Reason = "TOKENIZER_MISMATCH", Message = "Another tokenizer." };
        harness.Workers.Start("worker-a");
        await harness.CreateAsync();
        var run = await harness.WaitAsync(State.Failed);
        Assert.Equal(("TOKENIZER_MISMATCH", "Another tokenizer."), (run.Error.Reason, run.Error.Message));
    }

    [Fact]
    public async Task VersionsOfAModelCountUp()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Workers.Start("worker-a");
        for (var i = 1; i <= 3; i++)
        {
            await harness.CreateAsync($"run-{i}", s => s.Publish = new PublishSpec { ModelId = "story" });
            Assert.Equal($"models/story/versions/{i}", (await harness.WaitAsync(State.Succeeded, $"run-{i}")).ModelVersion);
        }
    }

    [Fact]
    public async Task ADamagedCheckpointIsNotPublished()
    {
        await using var harness = await CoordinatorHarness.StartAsync();
        harness.Workers.Start("worker-a");
        harness.Evaluator.Hold();
        await harness.CreateAsync();
        var run = await harness.WaitAsync(State.Evaluating);
        var path = harness.Store.TryGetLocalPath($"{run.LatestCheckpoint}/model.safetensors")!;
        var bytes = await File.ReadAllBytesAsync(path);
        bytes[^1] ^= 1;
        File.Delete(path);
        await File.WriteAllBytesAsync(path, bytes);
        harness.Evaluator.Release();
        run = await harness.WaitAsync(State.Failed);
        Assert.Equal("CORRUPT_DATA", run.Error.Reason);
        Assert.Contains("model.safetensors", run.Error.Message);
        Assert.Null(await harness.Store.TryReadManifestAsync("models/some-run/versions/1"));
    }
}
