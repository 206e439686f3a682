using Grpc.Core;
using LlmPipeline.Fakes;
using LlmPipeline.Inference.V1;

namespace LlmPipeline.Gateway.Tests;

public sealed class InferenceGrpcTests : IAsyncLifetime
{
    private const int Endless = 1_000_000;
    private readonly TemporaryFolder _storage = new();
    private GatewayHost _gateway = null!;
    private InferenceService.InferenceServiceClient _client = null!;

    public async ValueTask InitializeAsync()
    {
        await TinyModel.PublishAsync(_storage.Path);
        _gateway = await GatewayHost.StartAsync(
            _storage.Path, ("Gateway:MaxActive", "1"), ("Gateway:MaxQueue", "1"), ("Gateway:MaxTokens", $"{Endless}"));
        _client = new InferenceService.InferenceServiceClient(_gateway.Channel);
    }

    public async ValueTask DisposeAsync()
    {
        await _gateway.DisposeAsync();
        _storage.Dispose();
    }

    [Fact]
    public async Task GenerateStreamsTextAndEndsWithCounts()
    {
        var request = new GenerateRequest { Model = "models/tiny", Prompt = "the cat", MaxTokens = 30, Seed = 4 };
        var first = await ReadAsync(request);
        Assert.Equal("models/tiny/versions/1", first[0].ModelVersion);
        Assert.All(first.Skip(1), r => Assert.Equal("", r.ModelVersion));
        Assert.Equal("length", first[^1].FinishReason);
        Assert.Equal((7, 30), (first[^1].PromptTokenCount, first[^1].CompletionTokenCount));
        Assert.Equal(30, TextOf(first).Length);
        Assert.Equal(TextOf(first), TextOf(await ReadAsync(request)));
    }

    [Fact]
    public async Task WithoutMaxTokensThereAre128() =>
        Assert.Equal(128, (await ReadAsync(new GenerateRequest { Model = "tiny" }))[^1].CompletionTokenCount);

    [Fact]
    public async Task TemperatureZeroIsGreedy()
    {
        var texts = new HashSet<string>();
        for (var seed = 0; seed < 3; seed++)
        {
            texts.Add(TextOf(await ReadAsync(new GenerateRequest { Model = "tiny", Prompt = "a", MaxTokens = 20, Temperature = 0, Seed = seed })));
        }

        Assert.Single(texts);
    }

    [Fact]
    public async Task WrongValuesAreInvalidArgument()
    {
        Assert.Equal(StatusCode.InvalidArgument, await FailAsync(new GenerateRequest { Model = "tiny", MaxTokens = -1 }));
        Assert.Equal(StatusCode.InvalidArgument, await FailAsync(new GenerateRequest { Model = "tiny", Temperature = double.NaN }));
        Assert.Equal(StatusCode.InvalidArgument, await FailAsync(new GenerateRequest { Model = "tiny", TopP = double.NaN }));
        Assert.Equal(StatusCode.InvalidArgument, await FailAsync(new GenerateRequest { Model = "tiny", Stop = { "a", "b", "c", "d", "e" } }));
        Assert.Equal(StatusCode.InvalidArgument, await FailAsync(new GenerateRequest { Prompt = "a" }));
        Assert.Equal(StatusCode.NotFound, await FailAsync(new GenerateRequest { Model = "unknown" }));
        Assert.Equal(StatusCode.NotFound, await FailAsync(new GenerateRequest { Model = "../../etc/passwd" }));
    }

    [Fact]
    public async Task AFullQueueIsResourceExhaustedWithATimeToRetry()
    {
        using var running = _client.Generate(new GenerateRequest { Model = "tiny", MaxTokens = Endless });
        Assert.True(await running.ResponseStream.MoveNext().WaitAsync(GatewayHost.Patience));
        using var waiting = _client.Generate(new GenerateRequest { Model = "tiny", MaxTokens = Endless });
        await UntilAdmittedAsync(2);
        var error = await Assert.ThrowsAsync<RpcException>(() => ReadAsync(new GenerateRequest { Model = "tiny" }));
        Assert.Equal(StatusCode.ResourceExhausted, error.StatusCode);
        Assert.True(int.Parse(error.Trailers.GetValue("retry-after")!, System.Globalization.CultureInfo.InvariantCulture) > 0);
    }

    [Fact]
    public async Task ADeadlineStopsTheComputation()
    {
        var deadline = DateTime.UtcNow.AddMilliseconds(500);
        using var call = _client.Generate(new GenerateRequest { Model = "tiny", MaxTokens = Endless }, deadline: deadline);
        var error = await Assert.ThrowsAsync<RpcException>(async () =>
        {
            while (await call.ResponseStream.MoveNext().WaitAsync(GatewayHost.Patience))
            {
            }
        });

        // Where the server's clock is first, the reset of the stream may reach the client before the status: UNAVAILABLE then.
        Assert.True(error.StatusCode == StatusCode.DeadlineExceeded || (error.StatusCode == StatusCode.Unavailable && DateTime.UtcNow >= deadline), $"{error.Status}");
        await UntilAdmittedAsync(0);
    }

    [Fact]
    public async Task ACancellationStopsTheComputation()
    {
        using var leaving = new CancellationTokenSource();
        using var call = _client.Generate(new GenerateRequest { Model = "tiny", MaxTokens = Endless }, cancellationToken: leaving.Token);
        Assert.True(await call.ResponseStream.MoveNext().WaitAsync(GatewayHost.Patience));
        await leaving.CancelAsync();
        await UntilAdmittedAsync(0);
    }

    [Fact]
    public async Task ModelsAreListedInPages()
    {
        await TinyModel.PublishAsync(_storage.Path, "second");
        await _gateway.RefreshAsync();
        var first = await _client.ListModelsAsync(new ListModelsRequest { PageSize = 1 });
        var second = await _client.ListModelsAsync(new ListModelsRequest { PageSize = 1, PageToken = first.NextPageToken });
        Assert.Equal("", second.NextPageToken);
        Assert.Equal(["models/second", "models/tiny"], [first.Models.Single().Name, second.Models.Single().Name]);
        Assert.Equal("models/tiny/versions/1", second.Models[0].LatestVersion);
        Assert.Equal(32, second.Models[0].Context);
        var error = await Assert.ThrowsAsync<RpcException>(() => _client.ListModelsAsync(new ListModelsRequest { PageToken = "x" }).ResponseAsync);
        Assert.Equal(StatusCode.InvalidArgument, error.StatusCode);
    }

    private async Task<List<GenerateResponse>> ReadAsync(GenerateRequest request)
    {
        using var call = _client.Generate(request, deadline: DateTime.UtcNow + GatewayHost.Patience);
        var responses = new List<GenerateResponse>();
        await foreach (var response in call.ResponseStream.ReadAllAsync())
        {
            responses.Add(response);
        }

        return responses;
    }

    private async Task<StatusCode> FailAsync(GenerateRequest request) => (await Assert.ThrowsAsync<RpcException>(() => ReadAsync(request))).StatusCode;

    private async Task UntilAdmittedAsync(int count)
    {
        using var patience = new CancellationTokenSource(TimeSpan.FromSeconds(10));
        while (_gateway.Engine.AdmittedCount != count)
        {
            patience.Token.ThrowIfCancellationRequested();
            await Task.Yield();
        }
    }

    private static string TextOf(IEnumerable<GenerateResponse> responses) => string.Concat(responses.Select(r => r.Text));
}
