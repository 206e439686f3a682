using System.Text.Json.Nodes;
using Grpc.Core;
using Grpc.Net.Client;
using LlmPipeline.Inference.V1;
using LlmPipeline.Runs.V1;
using LlmPipeline.Storage;
using State = LlmPipeline.Runs.V1.Run.Types.State;

namespace LlmPipeline.EndToEnd.Tests;

/// <summary>A model that fills in masked tokens through the whole pipeline, as processes.</summary>
[Collection(ProcessCollection.Name)]
public sealed class MaskedTests
{
    [Fact]
    public async Task AMaskedModelIsTrainedMeasuredAndPublishedButNotServed()
    {
        using var pipeline = new PipelineProcesses();
        pipeline.Gateway.Start();
        pipeline.Start(workers: 2);
        pipeline.Evaluator.Start();
        await pipeline.CreateAsync("fill-in", pipeline.Spec(s =>
        {
            s.Model = new ModelSpec { Architecture = "llama", Layers = 1, Heads = 2, KvHeads = 1, Width = 32, Context = 32, Objective = "masked" };
            s.Evaluation = new EvaluationSpec();
            s.Publish = new PublishSpec { ModelId = "fills-in" };
        }));
        var run = await pipeline.WaitAsync("runs/fill-in", "over", r => r.State is State.Succeeded or State.Failed);

        Assert.True(run.State == State.Succeeded, pipeline.Describe(run));
        Assert.Equal(["<|mask|>"], run.Spec.Dataset.Tokenizer.SpecialTokens);
        Assert.Equal(("masked", false, null), (run.Evaluation.Model.Objective, run.Evaluation.Model.HasBleu, run.Evaluation.Ngram));
        Assert.InRange(run.Evaluation.Model.Loss, 0.1, 5);
        var config = JsonNode.Parse((await pipeline.Store.TryReadTextAsync($"{run.ModelVersion}/config.json"))!.Value.Text)!;
        Assert.Equal(("masked", "llama", 1, 2), ((string?)config["objective"], (string?)config["model_type"], (int)config["num_key_value_heads"]!, (int)config["mask_token_id"]!));

        using var channel = GrpcChannel.ForAddress(pipeline.Gateway.Address);
        using var call = new InferenceService.InferenceServiceClient(channel).Generate(new GenerateRequest { Model = "fills-in", Prompt = "the" });
        var error = await Assert.ThrowsAsync<RpcException>(() => call.ResponseStream.MoveNext(CancellationToken.None).WaitAsync(PipelineProcesses.Patience));
        Assert.Contains("continues no text, so it is not served", error.Status.Detail, StringComparison.Ordinal);
    }
}
