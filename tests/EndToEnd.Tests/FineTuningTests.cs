using System.Text.Json;
using Grpc.Core;
using Grpc.Net.Client;
using LlmPipeline.Datasets.V1;
using LlmPipeline.Inference.V1;
using LlmPipeline.Runs.V1;
using LlmPipeline.Storage;
using State = LlmPipeline.Runs.V1.Run.Types.State;

namespace LlmPipeline.EndToEnd.Tests;

/// <summary>A published model is fine-tuned to other text and to a classifier, through the whole pipeline, as processes.</summary>
[Collection(ProcessCollection.Name)]
public sealed class FineTuningTests
{
    [Fact]
    public async Task APublishedModelIsTunedToOtherTextAndToAClassifier()
    {
        using var pipeline = new PipelineProcesses();
        pipeline.Gateway.Start();
        pipeline.Start(workers: 2);
        pipeline.Evaluator.Start();
        var basis = await RunAsync(pipeline, "basis", pipeline.Spec(s => s.Publish = new PublishSpec { ModelId = "basis" }));

        // Low-rank updates on sentences of other words; merged when it is published, the adapter beside it.
        var other = pipeline.WriteText("other.txt", PipelineProcesses.Story().Replace("fox", "ferryman", StringComparison.Ordinal).Replace("river", "clock", StringComparison.Ordinal));
        var tuned = await RunAsync(pipeline, "tuned", pipeline.Spec(s =>
        {
            (s.Model, s.Dataset) = (null, new DatasetSpec { Sources = { other }, Split = s.Dataset.Split });
            s.FineTune = new FineTuneSpec { Base = "models/basis", Method = "lora", Lora = new LoraSpec { Rank = 4 }, OldDataset = basis.Dataset };
            s.Training.Steps = 60;
            s.Publish = new PublishSpec { ModelId = "tuned" };
        }));
        Assert.Equal(basis.ModelVersion, tuned.Spec.FineTune.Base);
        var forgetting = tuned.Evaluation.Forgetting;
        Assert.Equal(basis.Evaluation.Model.Loss, forgetting.BaseOld.Loss, 1e-6);
        Assert.Equal(tuned.Evaluation.Model.Loss, forgetting.ModelNew.Loss, 1e-6);
        Assert.True(forgetting.ModelNew.Loss < forgetting.BaseNew.Loss, $"{forgetting.ModelNew.Loss} on the new text is not below the base's {forgetting.BaseNew.Loss}");
        var files = (await pipeline.Store.TryReadManifestAsync(tuned.ModelVersion))!.Files.Select(f => f.Name).ToList();
        Assert.Contains("adapter/adapter_model.safetensors", files);
        Assert.Contains("model.safetensors", files);

        using var channel = GrpcChannel.ForAddress(pipeline.Gateway.Address);
        var inference = new InferenceService.InferenceServiceClient(channel);
        Assert.NotEmpty(await GenerateAsync(inference, "tuned"));

        // Which of two kinds of sentence it is.
        var classifier = await RunAsync(pipeline, "kinds", pipeline.Spec(s =>
        {
            s.Model = new ModelSpec { Pooling = "concat" };
            s.Dataset = new DatasetSpec { Sources = { pipeline.WriteText("kinds.jsonl", Labelled()) }, LabelField = "kind", Split = new SplitSpec { ValidationFraction = 0.2 } };
            s.FineTune = new FineTuneSpec { Base = "models/basis" };
            s.Evaluation = new EvaluationSpec();
            s.Publish = new PublishSpec { ModelId = "kinds" };
        }));
        var quality = classifier.Evaluation.Classification;
        Assert.Equal(["animal", "person"], quality.Classes.Select(c => c.Label));
        Assert.True(quality.Accuracy > quality.MajorityAccuracy + 0.2, $"accuracy {quality.Accuracy}, of the most frequent class {quality.MajorityAccuracy}");
        Assert.All(quality.Classes, c => Assert.Equal(c.DocumentCount, c.PredictedCounts.Sum()));
        Assert.Equal(quality.Accuracy, (double)quality.Classes.Select((c, k) => c.PredictedCounts[k]).Sum() / quality.Classes.Sum(c => c.DocumentCount), 1e-9);
        Assert.Contains(classifier.Events, e => e.Message.Contains("nats a document, accuracy ", StringComparison.Ordinal));
        Assert.Contains(classifier.Events, e => e.Kind == "VALIDATED" && e.Message.Contains(" nats a document", StringComparison.Ordinal));
        var error = await Assert.ThrowsAsync<RpcException>(() => GenerateAsync(inference, "kinds"));
        Assert.Contains("it tells animal, person apart", error.Status.Detail, StringComparison.Ordinal);

        // Served, it is right as often as it was measured to be, or nearly.
        var documents = Labelled().Split('\n', StringSplitOptions.RemoveEmptyEntries).Take(100).Select(l => JsonSerializer.Deserialize<Dictionary<string, string>>(l)!).ToList();
        var answer = await inference.ClassifyAsync(new ClassifyRequest { Model = "kinds", Inputs = { documents.Select(d => d["text"]) } });
        Assert.Equal("models/kinds/versions/1", answer.ModelVersion);
        Assert.True(answer.Results.Zip(documents).Average(p => p.First.Label == p.Second["kind"] ? 1.0 : 0) > quality.Accuracy - 0.15);
    }

    private static async Task<Run> RunAsync(PipelineProcesses pipeline, string id, RunSpec spec)
    {
        await pipeline.CreateAsync(id, spec);
        var run = await pipeline.WaitAsync($"runs/{id}", "over", r => r.State is State.Succeeded or State.Failed);
        Assert.True(run.State == State.Succeeded, pipeline.Describe(run));
        return run;
    }

    private static string Labelled()
    {
        var (kinds, ends) = (new[] { "the fox", "a small owl", "my neighbour", "the third cook" }, new[] { "at night", "in spring", "by the wall", "again", "before it rains" });
        return string.Concat(Enumerable.Range(0, 400).Select(i => JsonSerializer.Serialize(new
        {
            text = $"{ends[i % 5]} {kinds[i / 5 % 4]} sees the river {i % 100}",
            kind = i / 5 % 4 < 2 ? "animal" : "person",
        }) + "\n"));
    }

    private static async Task<string> GenerateAsync(InferenceService.InferenceServiceClient inference, string model)
    {
        using var call = inference.Generate(new GenerateRequest { Model = model, Prompt = "the ", MaxTokens = 20, Temperature = 0 });
        var text = "";
        await foreach (var response in call.ResponseStream.ReadAllAsync())
        {
            text += response.Text;
        }

        return text;
    }
}
