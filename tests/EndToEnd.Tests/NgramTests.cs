using System.Net;
using System.Net.Http.Json;
using System.Text.Json;
using System.Text.RegularExpressions;
using Google.Protobuf;
using Grpc.Net.Client;
using LlmPipeline.Inference.V1;
using LlmPipeline.Runs.V1;
using LlmPipeline.Storage;
using State = LlmPipeline.Runs.V1.Run.Types.State;

namespace LlmPipeline.EndToEnd.Tests;

/// <summary>N-gram models through the whole pipeline, as processes.</summary>
[Collection(ProcessCollection.Name)]
public sealed partial class NgramTests
{
    [Fact]
    public async Task AnNgramModelIsTrainedEvaluatedPublishedAndServedLikeAnyOther()
    {
        using var pipeline = new PipelineProcesses();
        pipeline.Gateway.Start();
        pipeline.Start(workers: 0);
        pipeline.StartWorker(("DOTNET_PROCESSOR_COUNT", "1"));
        pipeline.Evaluator.Start();
        await pipeline.CreateAsync("counted", Spec(pipeline, pipeline.TextFile, order: 12, "good-turing"));
        var run = await pipeline.WaitAsync("runs/counted", "over", IsOver);

        Assert.True(run.State == State.Succeeded, pipeline.Describe(run));
        Assert.Equal("runs/counted/checkpoints/00000001", run.BestCheckpoint);
        Assert.Equal((1, 1), (run.Progress.Step, run.Progress.TotalSteps));
        Assert.Equal(run.Evaluation.Model.Loss, run.Progress.ValidationLoss, 1e-9);
        Assert.InRange(run.Evaluation.Model.Loss, 0.1, 1.5);
        Assert.True(run.Evaluation.Model.HasBleu && run.Evaluation.Model.BitsPerByte > 0 && run.Evaluation.Model.Accuracy > 0.5);
        Assert.Equal(2, run.Evaluation.NgramOrder);
        Assert.True(run.Evaluation.Ngram.Loss > run.Evaluation.Model.Loss, "two tokens say less than twelve");

        Assert.Equal("models/counts/versions/1", run.ModelVersion);
        var manifest = (await pipeline.Store.TryReadManifestAsync(run.ModelVersion))!;
        Assert.Equal(["config.json", "generation_config.json", "ngrams.bin", "tokenizer.json"], manifest.Files.Select(f => f.Name).Order());
        Assert.Equal(("runs/counted", "ngram", run.Dataset), ((string?)manifest.Properties["run"], (string?)manifest.Properties["architecture"], (string?)manifest.Properties["dataset"]));
        Assert.Equal((11, run.Evaluation.Model.Loss), ((int)manifest.Properties["context"]!, (double)manifest.Properties["loss"]!));

        // Served over gRPC and REST, streamed and not, with the same options, and without a restart.
        using var channel = GrpcChannel.ForAddress(pipeline.Gateway.Address);
        var inference = new InferenceService.InferenceServiceClient(channel);
        using var http = new HttpClient { BaseAddress = new Uri(pipeline.Gateway.HttpAddress), Timeout = PipelineProcesses.Patience };
        var greedy = await RestAsync(http, new { model = "counts", prompt = "the fox ", max_tokens = 60, temperature = 0 });
        Assert.Matches(Sentences(), greedy);
        Assert.Equal(greedy, await GrpcAsync(inference, new GenerateRequest { Model = "counts", Prompt = "the fox ", MaxTokens = 60, Temperature = 0 }));
        Assert.Equal(greedy, await GrpcAsync(inference, new GenerateRequest { Model = "counts", Prompt = "the fox ", MaxTokens = 60, TopK = 1 }));
        var sampled = new GenerateRequest { Model = "counts", Prompt = "", MaxTokens = 200, Temperature = 1.1, TopP = 0.95, TopK = 20, Seed = 3 };
        var text = await GrpcAsync(inference, sampled);
        Assert.Equal(text, await RestAsync(http, new { model = "counts", prompt = "", max_tokens = 200, temperature = 1.1, top_p = 0.95, top_k = 20, seed = 3 }));
        sampled.Seed = 4;
        Assert.NotEqual(text, await GrpcAsync(inference, sampled));
        var listed = Assert.Single((await inference.ListModelsAsync(new ListModelsRequest())).Models);
        Assert.Equal(("models/counts", 11, (long)manifest.Properties["parameter_count"]!), (listed.Name, listed.Context, listed.ParameterCount));

        // The recorded spec, submitted again, is the same run, whatever the number of cores.
        pipeline.Workers[0].Kill();
        pipeline.StartWorker(("DOTNET_PROCESSOR_COUNT", "5"));
        await pipeline.CreateAsync("again", run.Spec);
        var again = await pipeline.WaitAsync("runs/again", "over", IsOver);
        Assert.Equal((State.Succeeded, run.Evaluation.Model.Loss), (again.State, again.Evaluation.Model.Loss));
        Assert.Equal(run.Spec.ToByteArray(), again.Spec.ToByteArray());
        Assert.Equal(await HashAsync(pipeline, run.BestCheckpoint), await HashAsync(pipeline, again.BestCheckpoint));

        // Kneser-Ney of the baseline's order is the baseline; a second worker has nothing to do with it.
        pipeline.StartWorker();
        await pipeline.CreateAsync("baseline", Spec(pipeline, pipeline.TextFile, order: 2, "kneser-ney"));
        var baseline = await pipeline.WaitAsync("runs/baseline", "over", IsOver);
        Assert.True(baseline.State == State.Succeeded, pipeline.Describe(baseline));
        Assert.Equal((null, run.Evaluation.Ngram.Loss), (baseline.Evaluation.Ngram, baseline.Evaluation.Model.Loss));
        Assert.DoesNotContain(baseline.Events, e => e.Kind is "WORKER_STANDS_BY" or "WORKER_LOST");
    }

    [Fact]
    public async Task AWorkerThatIsKilledWhileCountingCostsNothingButTime()
    {
        using var pipeline = new PipelineProcesses();
        pipeline.Start(workers: 1);
        var text = pipeline.WriteText("long.txt", PipelineProcesses.Story(60_000));
        await pipeline.CreateAsync("counted", Spec(pipeline, text, order: 12, "kneser-ney"));
        await pipeline.WaitAsync("runs/counted", "an epoch", r => r.Events.Any(e => e.Kind == "EPOCH_STARTED"));
        pipeline.Workers[0].Kill();
        var before = (await pipeline.Runs.GetRunAsync(new GetRunRequest { Name = "runs/counted" })).Run;
        Assert.Equal(State.Training, before.State);

        pipeline.StartWorker();
        var run = await pipeline.WaitAsync("runs/counted", "trained", r => r.State is State.Evaluating || IsOver(r));
        Assert.True(run.State == State.Evaluating, pipeline.Describe(run));
        Assert.Contains(run.Events, e => e.Kind == "WORKER_LOST");
        Assert.Equal(2, run.Events.Count(e => e.Kind == "EPOCH_STARTED"));
        await pipeline.Store.GetVerifiedLocalDirectoryAsync(run.LatestCheckpoint);
    }

    private static RunSpec Spec(PipelineProcesses pipeline, string text, int order, string smoothing) => pipeline.Spec(s =>
    {
        s.Dataset.Sources.Clear();
        s.Dataset.Sources.Add(text);
        s.Model = new ModelSpec { Architecture = "ngram", Ngram = new NgramSpec { Order = order, Smoothing = smoothing } };
        (s.Optimizer, s.Training, s.Publish) = (null, null, new PublishSpec { ModelId = "counts" });
    });

    private static bool IsOver(Run run) => run.State is State.Succeeded or State.Failed or State.Cancelled;

    private static async Task<string> RestAsync(HttpClient http, object request)
    {
        using var response = await http.PostAsJsonAsync("/v1/completions", request);
        var body = await response.Content.ReadAsStringAsync();
        Assert.True(response.StatusCode == HttpStatusCode.OK, body);
        using var json = JsonDocument.Parse(body);
        return json.RootElement.GetProperty("choices")[0].GetProperty("text").GetString()!;
    }

    private static async Task<string> GrpcAsync(InferenceService.InferenceServiceClient inference, GenerateRequest request)
    {
        using var call = inference.Generate(request, deadline: DateTime.UtcNow + PipelineProcesses.Patience);
        var text = "";
        while (await call.ResponseStream.MoveNext(CancellationToken.None))
        {
            text += call.ResponseStream.Current.Text;
        }

        return text;
    }

    private static async Task<string> HashAsync(PipelineProcesses pipeline, string checkpoint) =>
        (await pipeline.Store.TryReadManifestAsync(checkpoint))!.Files.Single(f => f.Name == "ngrams.bin").Sha256;

    /// <summary>What goes on after "the fox " as the story's sentences do.</summary>
    [GeneratedRegex("^(sees|follows|forgets|paints|counts|sings to) (the river|two lanterns|an empty boat|the letters|a field of rye|the clock) (at night|before it rains|again and again|in spring|without a word|by the wall)")]
    private static partial Regex Sentences();
}
