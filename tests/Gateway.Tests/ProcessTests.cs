using System.Diagnostics;
using System.Text;
using Grpc.Core;
using Grpc.Net.Client;
using LlmPipeline.Fakes;
using LlmPipeline.Runs.V1;

namespace LlmPipeline.Gateway.Tests;

/// <summary>The Gateway as a process of its own.</summary>
public sealed class ProcessTests
{
    private const string Listening = "Now listening on: ";

    [Fact]
    public async Task ToldToStopItEndsWithinTenSecondsWhateverStreamsAreOpen()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "The signal is sent with kill.");
        using var storage = new TemporaryFolder();
        await TinyModel.PublishAsync(storage.Path);
        var runs = new FakeRunService();
        runs.Runs["runs/run-1"] = new Run { Name = "runs/run-1" };
        var (trainer, trainerUrl) = await runs.StartAsync();
        await using var disposeTrainer = trainer;
        using var patience = new CancellationTokenSource(GatewayHost.Patience);
        using var process = Start(storage.Path, trainerUrl);
        try
        {
            var (url, grpcUrl) = (await NextAddressAsync(process, patience.Token), await NextAddressAsync(process, patience.Token));
            _ = process.StandardOutput.ReadToEndAsync(CancellationToken.None);

            using var channel = GrpcChannel.ForAddress(grpcUrl);
            using var watch = new RunService.RunServiceClient(channel).WatchRun(new WatchRunRequest { Name = "runs/run-1" }, cancellationToken: patience.Token);
            Assert.True(await watch.ResponseStream.MoveNext(patience.Token));
            using var http = new HttpClient { BaseAddress = new Uri(url) };
            using var request = new HttpRequestMessage(HttpMethod.Post, "/v1/completions")
            {
                Content = new StringContent("""{"model": "tiny", "prompt": "a", "stream": true, "max_tokens": 1000000}""", Encoding.UTF8, "application/json"),
            };
            using var response = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, patience.Token);
            Assert.True(response.IsSuccessStatusCode);

            var clock = Stopwatch.StartNew();
            using (var kill = Process.Start("kill", ["-TERM", $"{process.Id}"]))
            {
                await kill.WaitForExitAsync(patience.Token);
            }

            Assert.Contains("The Gateway is shutting down", await response.Content.ReadAsStringAsync(patience.Token), StringComparison.Ordinal);
            await process.WaitForExitAsync(patience.Token);
            Assert.True(clock.Elapsed < TimeSpan.FromSeconds(10), $"It took {clock.Elapsed}.");
            Assert.Equal(0, process.ExitCode);
            await Assert.ThrowsAsync<RpcException>(() => watch.ResponseStream.MoveNext(patience.Token));
        }
        finally
        {
            if (!process.HasExited)
            {
                process.Kill();
            }
        }
    }

    private static Process Start(string storage, string trainerUrl) => Process.Start(
        new ProcessStartInfo("dotnet", [Path.Combine(AppContext.BaseDirectory, "LlmPipeline.Gateway.dll")])
        {
            WorkingDirectory = storage,
            RedirectStandardOutput = true,
            Environment =
            {
                ["ASPNETCORE_URLS"] = "http://127.0.0.1:0",
                ["GRPC_PORT"] = "0",
                ["ConnectionStrings__storage"] = $"folder={storage}",
                ["Trainer__Endpoint"] = trainerUrl,
                ["Gateway__MaxTokens"] = "1000000",
                ["Gateway__StopSeconds"] = "1",
            },
        })!;

    private static async Task<string> NextAddressAsync(Process process, CancellationToken cancellationToken)
    {
        while (await process.StandardOutput.ReadLineAsync(cancellationToken) is { } line)
        {
            if (line.IndexOf(Listening, StringComparison.Ordinal) is var at and >= 0)
            {
                return line[(at + Listening.Length)..].Trim();
            }
        }

        throw new InvalidOperationException("The Gateway ended before it listened.");
    }
}
