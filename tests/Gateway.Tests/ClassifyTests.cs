using System.Net;
using System.Text;
using System.Text.Json.Nodes;
using Grpc.Core;
using LlmPipeline.Fakes;
using LlmPipeline.Gateway.Engine;
using LlmPipeline.Inference.V1;
using LlmPipeline.Models;
using LlmPipeline.Storage;
using LlmPipeline.Text;

namespace LlmPipeline.Gateway.Tests;

/// <summary>A classifier of random weights beside a model that continues text, over REST and gRPC.</summary>
public sealed class ClassifyTests : IAsyncLifetime
{
    private static readonly string[] Labels = ["bad", "good", "neither"];

    private readonly TemporaryFolder _storage = new();
    private GatewayHost _gateway = null!;
    private InferenceService.InferenceServiceClient _client = null!;

    public async ValueTask InitializeAsync()
    {
        await TinyModel.PublishAsync(_storage.Path);
        await TinyModel.PublishClassifierAsync(_storage.Path, "judge", Labels);
        _gateway = await GatewayHost.StartAsync(_storage.Path);
        _client = new InferenceService.InferenceServiceClient(_gateway.Channel);
    }

    public async ValueTask DisposeAsync()
    {
        await _gateway.DisposeAsync();
        _storage.Dispose();
    }

    [Fact]
    public async Task TheProbabilitiesAreThoseOfTheModelItself()
    {
        string[] texts = ["the cat", "", string.Concat(Enumerable.Repeat("a dog. ", 20))];
        var (status, answer) = await PostAsync(new JsonObject { ["model"] = "judge", ["input"] = new JsonArray([.. texts.Select(t => (JsonNode?)t)]) }.ToJsonString());
        Assert.Equal(HttpStatusCode.OK, status);
        var response = await _client.ClassifyAsync(new ClassifyRequest { Model = "models/judge", Inputs = { texts } });
        Assert.Equal(("models/judge/versions/1", "models/judge/versions/1", "list"), ((string?)answer["model"], response.ModelVersion, (string?)answer["object"]));
        Assert.Equal(Labels, answer["labels"]!.AsArray().Select(l => (string?)l));
        Assert.Equal(Labels, response.Labels);

        var folder = await BlobStore.Open($"folder={_storage.Path}").GetVerifiedLocalDirectoryAsync("models/judge/versions/1");
        using var model = (LanguageModel)ModelDirectory.Load(folder, TorchSharp.torch.CPU);
        var tokenizer = TokenizerFile.Load(Path.Combine(folder, "tokenizer.json"));
        var scores = new double[Labels.Length];
        foreach (var (i, text) in texts.Index())
        {
            model.ClassifyDocument(tokenizer.Encode(text), scores);
            var item = answer["data"]![i]!;
            double[] probs = [.. item["probs"]!.AsArray().Select(p => (double)p!)];
            Assert.Equal(scores.Select(Math.Exp), probs);
            Assert.Equal(probs, response.Results[i].Probabilities);
            Assert.Equal(1, probs.Sum(), 1e-9);
            var label = Labels[Array.IndexOf(probs, probs.Max())];
            Assert.Equal((i, label, label, 3), ((int)item["index"]!, (string?)item["label"], response.Results[i].Label, (int)item["num_classes"]!));
        }

        Assert.Equal(7 + 0 + 140, (int?)answer["usage"]!["prompt_tokens"]);
        Assert.Equal(147, response.TokenCount);
        Assert.NotEqual(response.Results[0].Probabilities, response.Results[2].Probabilities);
    }

    [Fact]
    public async Task OneTextNeedsNoArray()
    {
        var (_, answer) = await PostAsync("""{"model": "judge", "input": "the cat"}""");
        Assert.Contains((string?)Assert.Single(answer["data"]!.AsArray())!["label"], Labels);
    }

    [Theory]
    [InlineData("""{"model": "judge"}""", "input", "input has 0 texts: give 1 to 256.")]
    [InlineData("""{"model": "judge", "input": []}""", "input", "input has 0 texts")]
    [InlineData("""{"model": "judge", "input": [1]}""", "input", "a string, or an array of strings")]
    [InlineData("""{"model": "judge", "input": "a", "top_k": 1}""", "top_k", "not a known field")]
    [InlineData("""{"input": "a"}""", "model", "model is missing")]
    [InlineData("""{"model": "tiny", "input": "a"}""", "model", "models/tiny/versions/1 is no classifier")]
    [InlineData("[]", "body", "send a JSON object")]
    public async Task WhatIsWrongIsNamed(string body, string parameter, string message)
    {
        var (status, answer) = await PostAsync(body);
        Assert.Equal(HttpStatusCode.BadRequest, status);
        Assert.Equal(parameter, (string?)answer["error"]!["param"]);
        Assert.Contains(message, (string?)answer["error"]!["message"], StringComparison.Ordinal);
    }

    [Fact]
    public async Task TooManyTextsAndTooLongOnesAreRefused()
    {
        Assert.Contains("input has 257 texts", (string?)(await PostAsync(Body([.. Enumerable.Repeat("a", 257)]))).Answer["error"]!["message"], StringComparison.Ordinal);
        Assert.Contains("input has 200001 characters", (string?)(await PostAsync(Body([new string('a', 200_000), "b"]))).Answer["error"]!["message"], StringComparison.Ordinal);
        var error = await Assert.ThrowsAsync<RpcException>(() => _client.ClassifyAsync(new ClassifyRequest { Model = "tiny", Inputs = { "a" } }).ResponseAsync);
        Assert.Equal(StatusCode.InvalidArgument, error.StatusCode);

        static string Body(string[] texts) => new JsonObject { ["model"] = "judge", ["input"] = new JsonArray([.. texts.Select(t => (JsonNode?)t)]) }.ToJsonString();
    }

    [Fact]
    public async Task AClassifierContinuesNoTextAndIsListedWithItsClasses()
    {
        var answer = await _gateway.Http.PostAsync("/v1/completions", new StringContent("""{"model": "judge", "prompt": "a"}""", Encoding.UTF8, "application/json"));
        Assert.Equal(HttpStatusCode.BadRequest, answer.StatusCode);
        Assert.Contains("it tells bad, good, neither apart) and continues no text. Send the text to POST /v1/classify", await answer.Content.ReadAsStringAsync(), StringComparison.Ordinal);
        var models = JsonNode.Parse(await _gateway.Http.GetStringAsync("/v1/models"))!["data"]!.AsArray().ToDictionary(m => (string)m!["id"]!, m => m!["labels"]);
        Assert.Null(models["tiny"]);
        Assert.Equal(Labels, models["judge"]!.AsArray().Select(l => (string?)l));
        var listed = (await _client.ListModelsAsync(new ListModelsRequest())).Models.ToDictionary(m => m.Name, m => m.Labels.ToArray());
        Assert.Equal(Labels, listed["models/judge"]);
        Assert.Empty(listed["models/tiny"]);
        Assert.Equal(0, _gateway.Engine.AdmittedCount);
    }

    [Fact]
    public async Task WhatIsNotLoadedIsListedWithItsClassesToo()
    {
        await using var small = await GatewayHost.StartAsync(_storage.Path, ("Gateway:MaxLoadedModels", "1"));
        Assert.Equal(1, small.Catalogue.LoadedCount);
        Assert.Equal(Labels, JsonNode.Parse(await small.Http.GetStringAsync("/v1/models/judge"))!["labels"]!.AsArray().Select(l => (string?)l));
        Assert.Null(JsonNode.Parse(await small.Http.GetStringAsync("/v1/models/tiny"))!["labels"]);
    }

    [Fact]
    public async Task WhoseTimeIsUpIsToldHowFarItCame()
    {
        await using var late = await _gateway.Engine.StartAsync(
            new ClassificationParameters { Model = "judge", Inputs = ["a", "b"], Deadline = DateTimeOffset.UtcNow.AddSeconds(-1) }, CancellationToken.None);
        var error = await Assert.ThrowsAsync<GatewayException>(() => late.ReadAsync(CancellationToken.None).WaitAsync(GatewayHost.Patience));
        Assert.Equal((GatewayErrorKind.TimedOut, "The time for this request was up after 0 of 2 texts. Send fewer or shorter texts, or allow more time."), (error.Kind, error.Message));
    }

    private async Task<(HttpStatusCode Status, JsonNode Answer)> PostAsync(string body)
    {
        var response = await _gateway.Http.PostAsync("/v1/classify", new StringContent(body, Encoding.UTF8, "application/json"));
        return (response.StatusCode, JsonNode.Parse(await response.Content.ReadAsStringAsync())!);
    }
}
