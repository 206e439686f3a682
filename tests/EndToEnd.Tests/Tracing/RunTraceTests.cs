using Grpc.Core;
using LlmPipeline.Datasets.V1;
using LlmPipeline.Fakes;
using LlmPipeline.Runs.V1;

namespace LlmPipeline.EndToEnd.Tests.Tracing;

[Collection(ProcessCollection.Name)]
public sealed class RunTraceTests
{
    private static readonly string[] Services = ["gateway", "trainer", "preprocessor", "worker-0", "worker-1", "evaluator"];
    private static readonly TimeSpan RunLimit = TimeSpan.FromMinutes(5);
    private static readonly TimeSpan ExportLimit = TimeSpan.FromSeconds(30);

    [Fact]
    public async Task OneTraceHoldsSpansOfEveryServiceThatTookPartInARun()
    {
        Assert.SkipUnless(
            OperatingSystem.IsLinux() && NpmPackage.IsWanted,
            "Needs the Aspire dashboard from npm: set LLMPIPELINE_NPM=1 (Linux x64).");
        await using var dashboard = await AspireDashboard.StartAsync();
        await using var appHost = await AppHostProcess.StartAsync(
            ["--workers", "2", "--device", "cpu"],
            new Dictionary<string, string> { ["OTEL_EXPORTER_OTLP_ENDPOINT"] = dashboard.OtlpEndpoint });

        var run = await TrainAsync(appHost);

        Assert.True(run.State == Run.Types.State.Succeeded, $"{run.State}: {run.Error}\n{appHost.Output}");
        var spans = await dashboard.SpansOfAsync(run.TraceId, CancellationToken.None);
        using var patience = new CancellationTokenSource(ExportLimit);
        while (Services.Any(service => !spans.Contains(service)) && !patience.IsCancellationRequested)
        {
            await Task.Delay(500);
            spans = await dashboard.SpansOfAsync(run.TraceId, CancellationToken.None);
        }

        var seen = string.Join('\n', spans.Select(service => $"{service.Key}: {string.Join(", ", service.Distinct())}"));
        TestContext.Current.TestOutputHelper?.WriteLine(seen);
        Assert.True(Services.All(spans.Contains), $"Missing: {string.Join(", ", Services.Where(service => !spans.Contains(service)))}. Seen:\n{seen}");
        Assert.InRange(spans.Sum(service => service.Count()), Services.Length, 2000);
    }

    private static async Task<Run> TrainAsync(AppHostProcess appHost)
    {
        var text = Directory.CreateTempSubdirectory("llmpipeline-text-");
        try
        {
            foreach (var document in Enumerable.Range(0, 200))
            {
                var lines = Enumerable.Range(0, 20).Select(line => $"document {document} says that line {line * document} follows line {line}");
                await File.WriteAllLinesAsync(Path.Combine(text.FullName, $"{document:D3}.txt"), lines);
            }

            var client = new RunService.RunServiceClient(appHost.Channel);
            var deadline = DateTime.UtcNow + RunLimit;
            var created = await client.CreateRunAsync(new CreateRunRequest { RunId = "traced-run", Spec = Spec(text.FullName) }, deadline: deadline);
            using var watch = client.WatchRun(new WatchRunRequest { Name = created.Run.Name }, deadline: deadline);
            var run = created.Run;
            await foreach (var change in watch.ResponseStream.ReadAllAsync())
            {
                run = change.Run;
            }

            return run;
        }
        finally
        {
            text.Delete(recursive: true);
        }
    }

    private static RunSpec Spec(string source) => new()
    {
        Dataset = new DatasetSpec
        {
            Sources = { source },
            Tokenizer = new TokenizerSpec { Kind = "character" },
            Split = new SplitSpec { Method = "document", ValidationFraction = 0.2 },
        },
        Model = new ModelSpec { Layers = 2, Heads = 2, Width = 32, Context = 32, Dropout = 0 },
        Optimizer = new OptimizerSpec { LearningRate = 1e-3, WarmupSteps = 2 },
        Training = new TrainingSpec
        {
            Steps = 20,
            BatchSize = 8,
            MicroBatchSize = 2,
            ValidationInterval = 10,
            ValidationSequences = 8,
            CheckpointInterval = 10,
            StartWorkers = 2,
        },
        Evaluation = new EvaluationSpec { BleuSamples = 2, BleuTokens = 8, NgramOrder = 2 },
        Publish = new PublishSpec { ModelId = "traced" },
    };
}
