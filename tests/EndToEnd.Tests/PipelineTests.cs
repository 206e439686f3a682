using System.Text.Json.Nodes;
using Google.Protobuf;
using LlmPipeline.Runs.V1;
using LlmPipeline.Storage;
using State = LlmPipeline.Runs.V1.Run.Types.State;

namespace LlmPipeline.EndToEnd.Tests;

/// <summary>The pipeline as processes that are really killed.</summary>
[Collection(ProcessCollection.Name)]
public sealed class PipelineTests(PipelineTests.Reference reference) : IClassFixture<PipelineTests.Reference>
{
    [Fact]
    public async Task ARunGoesFromTextToAPublishedModelAndTwoWorkersComputeWhatOneDoes()
    {
        using var pipeline = new PipelineProcesses();
        pipeline.Start(workers: 2);
        pipeline.Evaluator.Start();
        await pipeline.CreateAsync("from-text", pipeline.Spec(s => (s.Training.StartWorkers, s.Publish) = (2, new PublishSpec { ModelId = "story" })));
        var run = await pipeline.WaitAsync("runs/from-text", "over", IsOver);

        Assert.True(run.State == State.Succeeded, pipeline.Describe(run));
        Assert.Equal(await reference.CurveAsync(), await pipeline.CurveAsync(run.Name));
        Assert.All((await pipeline.Runs.ListStepMetricsAsync(new ListStepMetricsRequest { Name = run.Name })).Metrics, m => Assert.Equal(2, m.WorkerCount));
        Assert.Equal("models/story/versions/1", run.ModelVersion);
        Assert.InRange(run.Evaluation.Model.Loss, 0.5, 3);
        Assert.True(run.Evaluation.Model.HasBleu);
        Assert.NotNull(run.Evaluation.Ngram);
        Assert.Equal([State.Preparing, State.Training, State.Evaluating, State.Publishing, State.Succeeded],
            run.Events.Where(e => e.Kind == "STATE_CHANGED").Skip(1).Select(e => Enum.Parse<State>(e.Message.Split(" -> ")[1].Split(':')[0], ignoreCase: true)));

        var manifest = (await pipeline.Store.TryReadManifestAsync(run.ModelVersion))!;
        Assert.Equal(["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"], manifest.Files.Select(f => f.Name).Order());
        await pipeline.Store.GetVerifiedLocalDirectoryAsync(run.ModelVersion);
        var lineage = manifest.Properties;
        Assert.Equal(
            (run.Name, run.BestCheckpoint, run.Dataset, run.Evaluation.Name, run.Traceparent),
            (Text(lineage, "run"), Text(lineage, "checkpoint"), Text(lineage, "dataset"), Text(lineage, "evaluation"), Text(lineage, "traceparent")));
        Assert.Equal(run.Evaluation.Model.Loss, lineage["loss"]!.GetValue<double>());
        Assert.Equal(64, Text(lineage, "dataset_manifest_sha256").Length);

        // The recorded spec, submitted again, is the same run.
        await pipeline.CreateAsync("the-same", run.Spec);
        var again = await pipeline.WaitAsync("runs/the-same", "over", IsOver);
        Assert.True(again.State == State.Succeeded, pipeline.Describe(again));
        Assert.Equal(run.Spec.ToByteArray(), again.Spec.ToByteArray());
        Assert.Equal("models/story/versions/2", again.ModelVersion);
        Assert.Equal(await pipeline.CurveAsync(run.Name), await pipeline.CurveAsync(again.Name));
        Assert.Equal(run.Evaluation.Model.Loss, again.Evaluation.Model.Loss);
    }

    [Fact]
    public async Task AWorkerThatIsKilledCostsNothingButTheStep()
    {
        using var pipeline = new PipelineProcesses();
        pipeline.Start(workers: 3);
        await pipeline.CreateAsync("some-run", pipeline.Spec(s => s.Training.StartWorkers = 3));
        await pipeline.WaitAsync("runs/some-run", "step 40", r => r.Progress.Step >= 40);
        pipeline.Workers[1].Kill();
        var run = await pipeline.WaitAsync("runs/some-run", "trained", IsTrained);

        Assert.Equal(await reference.CurveAsync(), await pipeline.CurveAsync(run.Name));
        Assert.Contains(run.Events, e => e.Kind == "WORKER_LOST" && e.Message.Contains("worker-1", StringComparison.Ordinal));
        Assert.Contains(run.Events, e => e.Kind == "EPOCH_STARTED" && e.Message.Contains("2 workers", StringComparison.Ordinal));
        Assert.Equal(1, run.Attempt);
    }

    [Fact]
    public async Task AWorkerThatFreezesIsLeftBehindAndComesBackWhenItThaws()
    {
        using var pipeline = new PipelineProcesses();
        pipeline.Start(workers: 3);
        await pipeline.CreateAsync("some-run", pipeline.Spec(s => s.Training.StartWorkers = 3));
        await pipeline.WaitAsync("runs/some-run", "step 40", r => r.Progress.Step >= 40);
        pipeline.Workers[2].Signal("STOP");
        await pipeline.WaitAsync("runs/some-run", "an epoch of two", r => r.Workers.Count == 2 || IsTrained(r));
        pipeline.Workers[2].Signal("CONT");
        var run = await pipeline.WaitAsync("runs/some-run", "trained", IsTrained);
        Assert.Equal(await reference.CurveAsync(), await pipeline.CurveAsync(run.Name));
        Assert.Contains(run.Events, e => e.Kind == "WORKER_LOST" && e.Message.Contains("worker-2", StringComparison.Ordinal));
    }

    [Fact]
    public async Task AWorkerThatIsAskedToStopLeavesBetweenTwoSteps()
    {
        using var pipeline = new PipelineProcesses();
        pipeline.Start(workers: 2);
        await pipeline.CreateAsync("some-run", pipeline.Spec(s => s.Training.StartWorkers = 2));
        await pipeline.WaitAsync("runs/some-run", "step 40", r => r.Progress.Step >= 40);
        pipeline.Workers[0].Signal("TERM");
        var run = await pipeline.WaitAsync("runs/some-run", "trained", IsTrained);
        Assert.Equal(await reference.CurveAsync(), await pipeline.CurveAsync(run.Name));
        Assert.DoesNotContain(run.Events, e => e.Kind == "WORKER_LOST");
    }

    [Fact]
    public async Task AWorkerThatComesLateTakesPart()
    {
        using var pipeline = new PipelineProcesses();
        pipeline.Start(workers: 1);
        await pipeline.CreateAsync("some-run", pipeline.Spec(s => s.Training.Steps = 100_000));
        await pipeline.WaitAsync("runs/some-run", "step 10", r => r.Progress.Step >= 10);
        pipeline.StartWorker();
        var run = await pipeline.WaitAsync("runs/some-run", "two workers", r => r.Workers.Count == 2);
        await pipeline.WaitForStepAsync(run.Name, "a step of two workers", m => m.WorkerCount == 2);

        await pipeline.Runs.CancelRunAsync(new CancelRunRequest { Name = run.Name });
        run = await pipeline.WaitAsync("runs/some-run", "over", IsOver);
        Assert.Equal(State.Cancelled, run.State);
        var last = ResourceName.ParseCheckpoint(run.LatestCheckpoint).Step;
        Assert.Equal(last, run.Progress.Step);
    }

    [Fact]
    public async Task ACoordinatorThatIsKilledFindsItsRunAgainAndLosesNoStep()
    {
        using var pipeline = new PipelineProcesses();
        pipeline.Start(workers: 2);
        await pipeline.CreateAsync("some-run", pipeline.Spec(s => s.Training.StartWorkers = 2));
        await pipeline.WaitAsync("runs/some-run", "step 40", r => r.Progress.Step >= 40);
        pipeline.Coordinator.Kill();
        pipeline.Coordinator.Start();
        var run = await pipeline.WaitAsync("runs/some-run", "trained", IsTrained);

        Assert.Equal(await reference.CurveAsync(), await pipeline.CurveAsync(run.Name));
        Assert.Contains(run.Events, e => e.Kind == "COORDINATOR_RESTARTED");
        Assert.DoesNotContain(run.Events, e => e.Kind is "WORKER_LOST" or "WORKERS_AWAITED");
    }

    [Fact]
    public async Task EverythingKilledWhileACheckpointIsWrittenGoesOnFromAWholeOne()
    {
        using var pipeline = new PipelineProcesses();
        pipeline.Start(workers: 2);
        await pipeline.CreateAsync("some-run", pipeline.Spec(s => s.Training.StartWorkers = 2));
        await pipeline.WaitAsync("runs/some-run", "a checkpoint", r => r.LatestCheckpoint.Length > 0);
        await FilesOfAsync(pipeline, step: 60);
        pipeline.KillEverything();

        // However far the write had come: now it is a half one.
        var half = await FilesOfAsync(pipeline, step: 60);
        await pipeline.Store.DeleteAsync("runs/some-run/checkpoints/00000060/manifest.json");
        var weights = half.FirstOrDefault(f => f.EndsWith("model.safetensors", StringComparison.Ordinal));
        if (weights is not null)
        {
            using var file = new FileStream(pipeline.Store.TryGetLocalPath(weights)!, FileMode.Open);
            file.SetLength(file.Length / 2);
        }

        pipeline.Preprocessor.Start();
        pipeline.Coordinator.Start();
        pipeline.StartWorker();
        pipeline.StartWorker();
        var run = await pipeline.WaitAsync("runs/some-run", "trained", IsTrained);

        var curve = await pipeline.CurveAsync(run.Name);
        var undisturbed = await reference.CurveAsync();
        Assert.Equal(undisturbed[^1], curve[^1]);
        Assert.Equal(undisturbed.Skip(30), curve.Where(line => int.Parse(line.Split(' ')[0], null) > 30));
        Assert.Empty(curve.Except(undisturbed));
        Assert.Contains(run.Events, e => e.Kind == "EPOCH_STARTED" && e.Message.Contains("from step 30 on", StringComparison.Ordinal));
        await pipeline.Store.GetVerifiedLocalDirectoryAsync(run.LatestCheckpoint);
    }

    private static bool IsOver(Run run) => run.State is State.Succeeded or State.Failed or State.Cancelled;

    private static bool IsTrained(Run run) => run.State is State.Evaluating || IsOver(run);

    private static string Text(JsonObject properties, string key) => properties[key]!.GetValue<string>();

    /// <summary>Waits until the first file of a checkpoint is there; returns all that are.</summary>
    private static async Task<List<string>> FilesOfAsync(PipelineProcesses pipeline, int step)
    {
        var end = DateTime.UtcNow + PipelineProcesses.Patience;
        while (true)
        {
            var files = new List<string>();
            await foreach (var blob in pipeline.Store.ListAsync($"runs/some-run/checkpoints/{step:D8}/"))
            {
                files.Add(blob.Name);
            }

            if (files.Count > 0)
            {
                return files;
            }

            Assert.True(DateTime.UtcNow < end, $"No file of the checkpoint of step {step} came.\n{pipeline.Describe(null)}");
            await Task.Delay(1);
        }
    }

    /// <summary>The undisturbed run, on one worker; made once.</summary>
    public sealed class Reference
    {
        private readonly Lazy<Task<IReadOnlyList<string>>> _curve = new(ComputeAsync);

        public Task<IReadOnlyList<string>> CurveAsync() => _curve.Value;

        private static async Task<IReadOnlyList<string>> ComputeAsync()
        {
            using var pipeline = new PipelineProcesses();
            pipeline.Start(workers: 1);
            await pipeline.CreateAsync("reference", pipeline.Spec());
            await pipeline.WaitAsync("runs/reference", "trained", IsTrained);
            var curve = await pipeline.CurveAsync("runs/reference");
            Assert.Equal(120, curve.Count);
            return curve;
        }
    }
}
