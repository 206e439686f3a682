using LlmPipeline.Fakes;
using LlmPipeline.Storage;
using LlmPipeline.Trainer.Coordinator;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Time.Testing;

namespace LlmPipeline.Trainer.Tests.Coordinator;

/// <summary>A coordinator whose storage goes away, on a clock that the test moves.</summary>
public sealed class CoordinatorLeaseTests
{
    [Theory]
    [InlineData("tries")]
    [InlineData("rights")]
    [InlineData("silence")]
    public async Task ACoordinatorWhoseLeaseCannotBeRenewedExits(string failure)
    {
        using var folder = new TemporaryFolder();
        var time = new FakeTimeProvider();
        var store = new FaultyStore(new FolderBlobStore(folder.Path))
        {
            Renewing = () => failure switch
            {
                "tries" => Task.FromException<bool>(new AggregateException("Retry failed after 5 tries.", new Azure.RequestFailedException("Connection refused"))),
                "rights" => Task.FromException<bool>(new UnauthorizedAccessException("No rights.")),
                _ => new TaskCompletionSource<bool>().Task,
            },
        };
        await using var app = await TestHost.StartAsync(FreePort.Next(), builder =>
        {
            builder.Services.AddSingleton<TimeProvider>(time);
            builder.Services.AddSingleton<IBlobStore>(store);
            builder.AddCoordinator();
        }, a => a.MapCoordinator(), ("Preprocessor:Endpoint", "http://127.0.0.1:1"), ("Evaluator:Endpoint", "http://127.0.0.1:1"));
        try
        {
            var runs = app.Services.GetRequiredService<RunCatalog>();
            await CoordinatorHarness.WaitUntilAsync("the coordinator is in charge", () => runs.IsOpen);
            var exiting = app.Services.GetRequiredService<IHostApplicationLifetime>().ApplicationStopping;
            var begin = time.GetUtcNow();
            await CoordinatorHarness.WaitUntilAsync("the coordinator exits", () =>
            {
                time.Advance(TimeSpan.FromSeconds(0.5));
                return exiting.IsCancellationRequested;
            });
            Assert.True(time.GetUtcNow() - begin >= TimeSpan.FromSeconds(11), $"{time.GetUtcNow() - begin}");
            await CoordinatorHarness.WaitUntilAsync("the coordinator is not in charge", () => !runs.IsOpen);
            await app.StopAsync().WaitAsync(CoordinatorHarness.Patience);
        }
        finally
        {
            // The coordinator tells its process that it failed; this process goes on.
            Environment.ExitCode = 0;
        }
    }
}
