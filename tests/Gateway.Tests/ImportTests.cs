using Grpc.Core;
using LlmPipeline.Fakes;
using LlmPipeline.Inference.V1;
using LlmPipeline.Storage;

namespace LlmPipeline.Gateway.Tests;

public sealed class ImportTests : IAsyncLifetime
{
    private readonly TemporaryFolder _storage = new();
    private readonly TemporaryFolder _foreign = new();
    private GatewayHost _gateway = null!;
    private InferenceService.InferenceServiceClient _client = null!;

    public async ValueTask InitializeAsync()
    {
        await TinyModel.PublishAsync(_foreign.Path, says: "the cat sat. ");
        _gateway = await GatewayHost.StartAsync(_storage.Path, ("Gateway:ImportRoots:0", _foreign.Path), ("Gateway:ImportRoots:1", TestData.Root ?? _foreign.Path));
        _client = new InferenceService.InferenceServiceClient(_gateway.Channel);
    }

    public async ValueTask DisposeAsync()
    {
        await _gateway.DisposeAsync();
        _storage.Dispose();
        _foreign.Dispose();
    }

    [Fact]
    public async Task AHuggingFaceDirectoryBecomesTheNextVersionAndGenerates()
    {
        var folder = Path.Combine(_foreign.Path, "models/tiny/versions/1");
        for (var version = 1; version <= 2; version++)
        {
            var model = (await _client.ImportModelAsync(new ImportModelRequest { Path = folder, ModelId = "imported" })).Model;
            Assert.Equal(("models/imported", $"models/imported/versions/{version}", 128), (model.Name, model.LatestVersion, model.Context));
            Assert.True(model.ParameterCount > 0);
        }

        Assert.Contains("the cat sat. the cat", await TextOfAsync("imported", "the cat sat. ", 40), StringComparison.Ordinal);
        Assert.Equal("models/imported", Assert.Single((await _client.ListModelsAsync(new ListModelsRequest())).Models).Name);
    }

    [Fact]
    public async Task WhoPublishesWaitsForWhoIsPublishingTheSameModel()
    {
        var store = BlobStore.Open($"folder={_storage.Path}");
        var held = await HeldLease.TakeAsync(store, "models/imported/publishing", cancellationToken: TestContext.Current.CancellationToken);
        var call = _client.ImportModelAsync(new ImportModelRequest { Path = Path.Combine(_foreign.Path, "models/tiny/versions/1"), ModelId = "imported" }).ResponseAsync;
        await Task.Delay(TimeSpan.FromSeconds(1), TestContext.Current.CancellationToken);
        Assert.False(call.IsCompleted);
        Assert.False(Directory.Exists(Path.Combine(_storage.Path, "models/imported/versions/1")));
        await held.DisposeAsync();
        Assert.Equal("models/imported/versions/1", (await call).Model.LatestVersion);
    }

    [Theory]
    [InlineData("checkpoint_legacy.bin", "")]
    [InlineData("checkpoint_v1.bin", "tokenizer.bin")]
    public async Task ALlama2cCheckpointTellsItsStoryThroughTheApi(string file, string tokenizer)
    {
        var request = new ImportModelRequest
        {
            Path = TestData.PathOf($"stories260k/{file}"),
            ModelId = "stories260k",
            Tokenizer = tokenizer.Length > 0 ? TestData.PathOf($"stories260k/{tokenizer}") : "",
        };
        Assert.Equal(512, (await _client.ImportModelAsync(request)).Model.Context);
        Assert.Equal(await File.ReadAllTextAsync(TestData.PathOf("stories260k/expected-greedy-200-steps.txt")), await TextOfAsync("stories260k", "", 200));
    }

    [Fact]
    public async Task WhatCannotBeImportedIsNamed()
    {
        var folder = Path.Combine(_foreign.Path, "models/tiny/versions/1");
        Assert.Contains("model_id 'no'", await ErrorAsync(folder, "no"), StringComparison.Ordinal);
        Assert.Contains("is not in a folder that the Gateway may import from", await ErrorAsync("/etc"), StringComparison.Ordinal);
        Assert.Contains("is not in a folder", await ErrorAsync(_foreign.Path + "/../x"), StringComparison.Ordinal);
        Assert.Contains("There is no", await ErrorAsync(folder + "x"), StringComparison.Ordinal);
        Assert.Contains("path is ''", await ErrorAsync(""), StringComparison.Ordinal);
        Assert.Contains("has no tokenizer", await ErrorAsync(_foreign.Path), StringComparison.Ordinal);
        File.Delete(Path.Combine(folder, "model.safetensors"));
        Assert.Contains("model.safetensors' is missing", await ErrorAsync(folder), StringComparison.Ordinal);
        Assert.Empty((await _client.ListModelsAsync(new ListModelsRequest())).Models);

        async Task<string> ErrorAsync(string path, string id = "imported")
        {
            var error = await Assert.ThrowsAsync<RpcException>(async () => await _client.ImportModelAsync(new ImportModelRequest { Path = path, ModelId = id }));
            Assert.Equal(StatusCode.InvalidArgument, error.StatusCode);
            return error.Status.Detail;
        }
    }

    [Fact]
    public async Task AModelThatFillsInMasksIsNotServed()
    {
        var folder = Path.Combine(_foreign.Path, "models/tiny/versions/1");
        var config = Path.Combine(folder, "config.json");
        await File.WriteAllTextAsync(config, (await File.ReadAllTextAsync(config)).Replace("\"model_type\"", "\"objective\": \"masked\", \"mask_token_id\": 1, \"model_type\"", StringComparison.Ordinal));
        var request = new ImportModelRequest { Path = folder, ModelId = "fills-in" };
        var error = await Assert.ThrowsAsync<RpcException>(async () => await _client.ImportModelAsync(request));
        Assert.Contains("continues no text, so it is not served", error.Status.Detail, StringComparison.Ordinal);
        error = await Assert.ThrowsAsync<RpcException>(() => TextOfAsync("fills-in", "a", 4));
        Assert.Contains("continues no text, so it is not served", error.Status.Detail, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ATokenizerOfAnotherVocabularyIsRefused()
    {
        var request = new ImportModelRequest { Path = TestData.PathOf("llama-hf-layout"), ModelId = "imported", Tokenizer = TestData.PathOf("stories260k") };
        var error = await Assert.ThrowsAsync<RpcException>(async () => await _client.ImportModelAsync(request));
        Assert.Contains("has 1024 ids, and the tokenizer of", error.Status.Detail, StringComparison.Ordinal);
    }

    private async Task<string> TextOfAsync(string model, string prompt, int tokens)
    {
        using var call = _client.Generate(new GenerateRequest { Model = model, Prompt = prompt, MaxTokens = tokens, Temperature = 0 });
        var text = "";
        while (await call.ResponseStream.MoveNext(CancellationToken.None).WaitAsync(GatewayHost.Patience))
        {
            text += call.ResponseStream.Current.Text;
        }

        return text;
    }
}
