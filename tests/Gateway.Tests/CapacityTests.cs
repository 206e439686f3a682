using System.Diagnostics;
using System.Net;
using System.Text;
using System.Text.Json.Nodes;
using LlmPipeline.Fakes;
using LlmPipeline.Gateway.Engine;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;

namespace LlmPipeline.Gateway.Tests;

/// <summary>Who gets a turn, who waits, who is refused, and that whoever leaves costs nothing more.</summary>
public sealed class CapacityTests : IAsyncLifetime
{
    private const int Endless = 1_000_000;
    private readonly TemporaryFolder _storage = new();
    private GatewayHost _gateway = null!;

    public async ValueTask InitializeAsync()
    {
        await TinyModel.PublishAsync(_storage.Path);
        _gateway = await GatewayHost.StartAsync(
            _storage.Path, ("Gateway:MaxActive", "2"), ("Gateway:MaxQueue", "2"), ("Gateway:MaxTokens", $"{Endless}"));
    }

    public async ValueTask DisposeAsync()
    {
        await _gateway.DisposeAsync();
        _storage.Dispose();
    }

    [Fact]
    public async Task AFullQueueIsRefusedWithATimeToRetry()
    {
        var places = new List<TextGeneration>();
        for (var i = 0; i < 4; i++)
        {
            places.Add(await BeginAsync());
        }

        using var content = new StringContent("""{"model": "tiny", "prompt": "a"}""", Encoding.UTF8, "application/json");
        var response = await _gateway.Http.PostAsync("/v1/completions", content);
        Assert.Equal(HttpStatusCode.TooManyRequests, response.StatusCode);
        Assert.InRange(response.Headers.RetryAfter!.Delta!.Value.TotalSeconds, 1, 60);
        Assert.Equal("queue_full", (string?)JsonNode.Parse(await response.Content.ReadAsStringAsync())!["error"]!["code"]);

        foreach (var place in places)
        {
            await place.DisposeAsync();
        }

        await UntilFreeAsync();
        await using var next = await BeginAsync(maxTokens: 3);
        Assert.Equal(3, (await EndOf(next)).CompletionTokens);
    }

    [Fact]
    public async Task AShortRequestIsDoneWhileALongOneGoesOn()
    {
        await using var long_ = await BeginAsync();
        await FirstPieceOf(long_);
        await using var short_ = await BeginAsync(maxTokens: 50);
        Assert.Equal(50, (await EndOf(short_)).CompletionTokens);
        Assert.Equal(1, _gateway.Engine.AdmittedCount);
    }

    [Fact]
    public async Task AClientThatLeavesAStreamFreesItsPlace()
    {
        // A client that closes the connection at once, instead of reading on for a while to use it again.
        using var handler = new SocketsHttpHandler { ResponseDrainTimeout = TimeSpan.Zero };
        using var http = new HttpClient(handler) { BaseAddress = _gateway.Http.BaseAddress, Timeout = GatewayHost.Patience };
        for (var round = 0; round < 100; round++)
        {
            using var leaving = new CancellationTokenSource();
            using var request = new HttpRequestMessage(HttpMethod.Post, "/v1/completions")
            {
                Content = new StringContent($$"""{"model": "tiny", "prompt": "a", "stream": true, "max_tokens": {{Endless}}}""", Encoding.UTF8, "application/json"),
            };
            using var response = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, leaving.Token);
            await using var stream = await response.Content.ReadAsStreamAsync(leaving.Token);
            await stream.ReadExactlyAsync(new byte[10], leaving.Token);
            await leaving.CancelAsync();
            response.Dispose();
            await UntilFreeAsync();
        }
    }

    [Fact]
    public async Task AClientThatLeavesTheQueueFreesItsPlaceAtOnce()
    {
        await using var first = await BeginAsync();
        await using var second = await BeginAsync();
        await FirstPieceOf(first);
        await FirstPieceOf(second);
        var waiting = await BeginAsync();
        Assert.Equal(3, _gateway.Engine.AdmittedCount);
        await waiting.DisposeAsync();
        Assert.Equal(2, _gateway.Engine.AdmittedCount);
    }

    [Fact]
    public async Task ARequestWhoseTimeIsUpInTheQueueIsNeverExecuted()
    {
        await using var first = await BeginAsync();
        await using var second = await BeginAsync();
        await FirstPieceOf(first);
        await FirstPieceOf(second);
        await using var waiting = await BeginAsync(deadline: TimeSpan.FromMilliseconds(100));
        var error = await Assert.ThrowsAsync<GatewayException>(() => EndOf(waiting));
        Assert.Equal(GatewayErrorKind.TimedOut, error.Kind);
        Assert.Equal("The time for this request was up after 0 tokens. Ask for fewer tokens, or allow more time.", error.Message);
        Assert.Equal(2, _gateway.Engine.AdmittedCount);
    }

    [Fact]
    public async Task ARequestWhoseTimeIsUpWhileItRunsStops()
    {
        await using var running = await BeginAsync(deadline: TimeSpan.FromMilliseconds(300));
        var error = await Assert.ThrowsAsync<GatewayException>(() => EndOf(running));
        Assert.Equal(GatewayErrorKind.TimedOut, error.Kind);
        Assert.Equal(0, _gateway.Engine.AdmittedCount);
    }

    [Fact]
    public async Task AThousandStreamsAtOnceAreAnsweredOrToldToRetry()
    {
        var answers = await Task.WhenAll(Enumerable.Range(0, 1000).Select(async i =>
        {
            using var content = new StringContent($$"""{"model": "tiny", "prompt": "a", "stream": true, "max_tokens": 5, "seed": {{i}}}""", Encoding.UTF8, "application/json");
            using var response = await _gateway.Http.PostAsync("/v1/completions", content);
            var text = await response.Content.ReadAsStringAsync();
            return response.StatusCode == HttpStatusCode.OK && text.EndsWith("data: [DONE]\n\n", StringComparison.Ordinal) ? HttpStatusCode.OK : response.StatusCode;
        })).WaitAsync(GatewayHost.Patience);
        Assert.Contains(HttpStatusCode.OK, answers);
        Assert.All(answers, status => Assert.True(status is HttpStatusCode.OK or HttpStatusCode.TooManyRequests, $"{status}"));
        await UntilFreeAsync();
    }

    [Fact]
    public async Task AnAnswerThatIsNearlyDoneIsFinishedWhenTheProcessIsToldToStop()
    {
        await using var running = await BeginAsync(maxTokens: 200);
        await FirstPieceOf(running);
        _gateway.Services.GetRequiredService<IHostApplicationLifetime>().StopApplication();
        Assert.Equal(200, (await EndOf(running)).CompletionTokens);
    }

    [Fact]
    public async Task StoppingTheGatewayEndsWhatRuns()
    {
        await using var running = await BeginAsync();
        await FirstPieceOf(running);
        await _gateway.Engine.StopAsync(CancellationToken.None).WaitAsync(GatewayHost.Patience);
        Assert.Equal(GatewayErrorKind.Unavailable, (await Assert.ThrowsAsync<GatewayException>(() => EndOf(running))).Kind);
    }

    private Task<TextGeneration> BeginAsync(int maxTokens = Endless, TimeSpan? deadline = null) => _gateway.Engine.StartAsync(
        new GenerationParameters { Model = "tiny", Prompt = "a", MaxTokens = maxTokens, Deadline = DateTimeOffset.UtcNow + (deadline ?? GatewayHost.Patience) },
        CancellationToken.None);

    private static async Task FirstPieceOf(TextGeneration generation)
    {
        using var patience = new CancellationTokenSource(GatewayHost.Patience);
        await foreach (var piece in generation.ReadAsync(patience.Token))
        {
            if (piece.Text.Length > 0)
            {
                return;
            }
        }
    }

    private static async Task<GenerationEnd> EndOf(TextGeneration generation)
    {
        using var patience = new CancellationTokenSource(GatewayHost.Patience);
        GenerationEnd? end = null;
        await foreach (var piece in generation.ReadAsync(patience.Token))
        {
            end = piece.End ?? end;
        }

        return end!;
    }

    /// <summary>Fails when a place is not free within 2 s (on an idle machine it takes some milliseconds).</summary>
    private async Task UntilFreeAsync()
    {
        var watch = Stopwatch.StartNew();
        while (_gateway.Engine.AdmittedCount > 0)
        {
            Assert.True(watch.Elapsed < TimeSpan.FromSeconds(2), "A place was not freed.");
            await Task.Yield();
        }
    }
}
