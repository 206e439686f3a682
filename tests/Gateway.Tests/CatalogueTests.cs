using System.Net;
using Grpc.Core;
using LlmPipeline.Fakes;
using LlmPipeline.Gateway.Engine;
using LlmPipeline.Inference.V1;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;

namespace LlmPipeline.Gateway.Tests;

/// <summary>Which version answers, while versions come, break and go.</summary>
public sealed class CatalogueTests : IDisposable
{
    private readonly TemporaryFolder _storage = new();

    public void Dispose() => _storage.Dispose();

    [Fact]
    public async Task ANewVersionIsServedWithoutARestartAndTheOldOneFinishesItsAnswers()
    {
        await TinyModel.PublishAsync(_storage.Path, version: 1, says: "a");
        await using var gateway = await GatewayHost.StartAsync(_storage.Path, ("Gateway:MaxTokens", "1000000"));
        await using var old = await gateway.Engine.StartAsync(Request("tiny", 6_000), CancellationToken.None);

        await TinyModel.PublishAsync(_storage.Path, version: 2, says: "b");
        Assert.Equal("aaa", await SayAsync(gateway, "tiny"));
        await gateway.RefreshAsync();
        Assert.Equal("bbb", await SayAsync(gateway, "tiny"));
        Assert.Equal("aaa", await SayAsync(gateway, "models/tiny/versions/1"));

        Assert.Equal(new string('a', 6_000), await TextOf(old));
    }

    [Fact]
    public async Task AModelAnswersAsSoonAsItIsPublished()
    {
        await using var gateway = await GatewayHost.StartAsync(_storage.Path, ("Gateway:PollSeconds", "3600"));
        await Assert.ThrowsAsync<GatewayException>(() => SayAsync(gateway, "tiny"));
        await TinyModel.PublishAsync(_storage.Path, says: "d");
        Assert.Equal("ddd", await SayAsync(gateway, "tiny"));
    }

    [Fact]
    public async Task NewVersionsAreFoundByThemselves()
    {
        await using var gateway = await GatewayHost.StartAsync(_storage.Path, ("Gateway:PollSeconds", "0.1"));
        await TinyModel.PublishAsync(_storage.Path, says: "c");
        using var patience = new CancellationTokenSource(GatewayHost.Patience);
        while (gateway.Catalogue.LoadedCount == 0)
        {
            await Task.Delay(20, patience.Token);
        }

        Assert.Equal("ccc", await SayAsync(gateway, "tiny"));
    }

    [Fact]
    public async Task ACorruptVersionIsSkippedAndTheOldOneGoesOn()
    {
        await TinyModel.PublishAsync(_storage.Path, version: 1, says: "a");
        await using var gateway = await GatewayHost.StartAsync(_storage.Path);
        await TinyModel.PublishAsync(_storage.Path, version: 2, says: "b");
        FlipAByte("tiny", 2);
        await gateway.RefreshAsync();
        Assert.Equal("aaa", await SayAsync(gateway, "tiny"));

        var error = await Assert.ThrowsAsync<GatewayException>(() => SayAsync(gateway, "models/tiny/versions/2"));
        Assert.Equal(GatewayErrorKind.Unavailable, error.Kind);
        Assert.Contains("model.safetensors", error.Message, StringComparison.Ordinal);

        await TinyModel.PublishAsync(_storage.Path, version: 3, says: "c");
        await gateway.RefreshAsync();
        Assert.Equal("ccc", await SayAsync(gateway, "tiny"));
    }

    [Fact]
    public async Task AfterARestartTheNewestVersionThatLoadsIsServed()
    {
        await TinyModel.PublishAsync(_storage.Path, version: 1, says: "a");
        await TinyModel.PublishAsync(_storage.Path, version: 2, says: "b");
        FlipAByte("tiny", 2);
        await using var gateway = await GatewayHost.StartAsync(_storage.Path);
        Assert.Equal("aaa", await SayAsync(gateway, "tiny"));
    }

    [Fact]
    public async Task AVersionWithoutManifestDoesNotExist()
    {
        await TinyModel.PublishAsync(_storage.Path, version: 1, says: "a");
        await TinyModel.PublishAsync(_storage.Path, version: 2, says: "b");
        File.Delete(Path.Combine(_storage.Path, "models/tiny/versions/2/manifest.json"));
        await using var gateway = await GatewayHost.StartAsync(_storage.Path);
        Assert.Equal("aaa", await SayAsync(gateway, "tiny"));
    }

    [Fact]
    public async Task AManifestThatIsNoJsonIsSkipped()
    {
        await TinyModel.PublishAsync(_storage.Path, version: 1, says: "a");
        await TinyModel.PublishAsync(_storage.Path, version: 2, says: "b");
        await BlobStore.Open($"folder={_storage.Path}").WriteTextAsync("models/tiny/versions/2/manifest.json", "{ broken");
        await using var gateway = await GatewayHost.StartAsync(_storage.Path);
        Assert.Equal("aaa", await SayAsync(gateway, "tiny"));
    }

    [Theory]
    [InlineData("manifest.json")]
    [InlineData("config.json")]
    public async Task AModelWithoutAReadableVersionSaysWhichFileIsDamaged(string file)
    {
        const string Version = "models/tiny/versions/1";
        await TinyModel.PublishAsync(_storage.Path, says: "a");
        var store = BlobStore.Open($"folder={_storage.Path}");
        await store.WriteTextAsync($"{Version}/{file}", "{ broken");
        await using var gateway = await GatewayHost.StartAsync(_storage.Path);
        foreach (var name in (string[])["tiny", "models/tiny", Version])
        {
            var error = await Assert.ThrowsAsync<GatewayException>(() => SayAsync(gateway, name));
            Assert.Equal(GatewayErrorKind.CorruptData, error.Kind);
            Assert.Contains($"'{Version}/{file}' is damaged", error.Message, StringComparison.Ordinal);
            Assert.Contains($"Delete '{Version}'", error.Message, StringComparison.Ordinal);
        }

        using var answer = await gateway.Http.GetAsync("/v1/models/tiny");
        Assert.Equal(HttpStatusCode.InternalServerError, answer.StatusCode);
        Assert.Contains("corrupt_data", await answer.Content.ReadAsStringAsync(), StringComparison.Ordinal);
        using var call = new InferenceService.InferenceServiceClient(gateway.Channel).Generate(new GenerateRequest { Model = "tiny" }, deadline: DateTime.UtcNow + GatewayHost.Patience);
        var failure = await Assert.ThrowsAsync<RpcException>(() => call.ResponseStream.MoveNext());
        Assert.Equal(StatusCode.DataLoss, failure.StatusCode);
        Assert.Equal(ErrorReasons.CorruptData, failure.GetRpcStatus()?.GetDetail<Google.Rpc.ErrorInfo>()?.Reason);

        Assert.Equal(GatewayErrorKind.ModelNotFound, (await Assert.ThrowsAsync<GatewayException>(() => SayAsync(gateway, "tin"))).Kind);
        await store.DeleteDirectoryAsync(Version);
        await gateway.RefreshAsync();
        Assert.Equal(GatewayErrorKind.ModelNotFound, (await Assert.ThrowsAsync<GatewayException>(() => SayAsync(gateway, "tiny"))).Kind);
    }

    [Fact]
    public async Task ADeletedVersionGivesWayToTheOneBefore()
    {
        await TinyModel.PublishAsync(_storage.Path, version: 1, says: "a");
        await TinyModel.PublishAsync(_storage.Path, version: 2, says: "b");
        await using var gateway = await GatewayHost.StartAsync(_storage.Path);
        Assert.Equal("bbb", await SayAsync(gateway, "tiny"));
        await BlobStore.Open($"folder={_storage.Path}").DeleteDirectoryAsync("models/tiny/versions/2");
        await gateway.RefreshAsync();
        Assert.Equal("aaa", await SayAsync(gateway, "tiny"));
    }

    [Fact]
    public async Task NoMoreModelsThanAllowedStayInMemoryAndAllAnswer()
    {
        char[] letters = ['a', 'b', 'c', 'd'];
        foreach (var letter in letters)
        {
            await TinyModel.PublishAsync(_storage.Path, $"model-{letter}", says: letter.ToString());
        }

        await using var gateway = await GatewayHost.StartAsync(_storage.Path, ("Gateway:MaxLoadedModels", "2"));
        for (var round = 0; round < 2; round++)
        {
            foreach (var letter in letters)
            {
                Assert.Equal(new string(letter, 3), await SayAsync(gateway, $"model-{letter}"));
                Assert.InRange(gateway.Catalogue.LoadedCount, 1, 2);
            }
        }
    }

    [Fact]
    public async Task ANewVersionOfAModelThatWasEvictedIsServed()
    {
        await TinyModel.PublishAsync(_storage.Path, "first", 1, says: "a");
        await TinyModel.PublishAsync(_storage.Path, "other", 1, says: "z");
        await using var gateway = await GatewayHost.StartAsync(_storage.Path, ("Gateway:MaxLoadedModels", "1"));
        Assert.Equal("aaa", await SayAsync(gateway, "first"));
        Assert.Equal("zzz", await SayAsync(gateway, "other"));
        await TinyModel.PublishAsync(_storage.Path, "first", 2, says: "b");
        await gateway.RefreshAsync();
        Assert.Equal("bbb", await SayAsync(gateway, "first"));
    }

    [Fact]
    public async Task AVersionCanBeSwappedUnderLoadWithoutAFailedRequest()
    {
        await TinyModel.PublishAsync(_storage.Path, version: 1, says: "a");
        await using var gateway = await GatewayHost.StartAsync(_storage.Path);
        using var done = new CancellationTokenSource();
        var clients = Enumerable.Range(0, 4).Select(_ => Task.Run(async () =>
        {
            var (count, last) = (0, "");
            while (!done.IsCancellationRequested)
            {
                last = await SayAsync(gateway, "tiny");
                count++;
            }

            return (count, last);
        })).ToArray();
        for (var version = 2; version <= 5; version++)
        {
            await TinyModel.PublishAsync(_storage.Path, version: version, says: $"{(char)('a' + version - 1)}");
            await gateway.RefreshAsync();
        }

        await SayAsync(gateway, "tiny");
        await done.CancelAsync();
        var results = await Task.WhenAll(clients).WaitAsync(GatewayHost.Patience);
        Assert.All(results, r => Assert.True(r.count > 0));
        Assert.Equal("eee", await SayAsync(gateway, "tiny"));
        Assert.Equal(1, gateway.Catalogue.LoadedCount);
    }

    private void FlipAByte(string model, int version)
    {
        var path = Path.Combine(_storage.Path, $"models/{model}/versions/{version}/model.safetensors");
        var bytes = File.ReadAllBytes(path);
        bytes[^5] ^= 1;
        File.WriteAllBytes(path, bytes);
    }

    private static GenerationParameters Request(string model, int maxTokens) => new() { Model = model, Prompt = "x", MaxTokens = maxTokens };

    private static async Task<string> SayAsync(GatewayHost gateway, string model)
    {
        await using var generation = await gateway.Engine.StartAsync(Request(model, 3), CancellationToken.None).WaitAsync(GatewayHost.Patience);
        return await TextOf(generation);
    }

    private static async Task<string> TextOf(TextGeneration generation)
    {
        using var patience = new CancellationTokenSource(GatewayHost.Patience);
        var text = new System.Text.StringBuilder();
        await foreach (var piece in generation.ReadAsync(patience.Token))
        {
            text.Append(piece.Text);
        }

        return text.ToString();
    }
}
