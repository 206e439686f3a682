using System.Diagnostics;
using LlmPipeline.Fakes;

namespace LlmPipeline.Gateway.Tests;

/// <summary>OpenAI's own client for JavaScript, unchanged.</summary>
public sealed class OpenAiClientTests
{
    [Fact]
    public async Task OpenAisClientListsModelsCompletesStreamsAndUnderstandsErrors()
    {
        using var storage = new TemporaryFolder();
        await TinyModel.PublishAsync(storage.Path);
        await using var gateway = await GatewayHost.StartAsync(storage.Path);
        await NodeScript.RunAsync("openai", "7.57.0", "openai-client.mjs", $"{gateway.Url}/v1");

        var watch = Stopwatch.StartNew();
        while (gateway.Engine.AdmittedCount > 0)
        {
            Assert.True(watch.Elapsed < TimeSpan.FromSeconds(10), "The client left a stream, and its place was not freed.");
            await Task.Yield();
        }
    }
}
