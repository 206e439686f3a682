using LlmPipeline.Fakes;
using LlmPipeline.Runs.V1;
using LlmPipeline.Storage;
using LlmPipeline.Trainer.Collectives;
using LlmPipeline.Trainer.Worker;
using LlmPipeline.Workers.V1;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;

namespace LlmPipeline.Trainer.Tests;

/// <summary>Whole workers over loopback gRPC, with a coordinator that is a fake.</summary>
public sealed class WorkerServiceTests : IAsyncLifetime
{
    private readonly TemporaryFolder _folder = new();
    private readonly int _coordinatorPort = FreePort.Next();
    private readonly List<WebApplication> _workers = [];
    private WebApplication? _coordinator;
    private (string, string)[] _tls = [];
    private DatasetSource _datasets = (_, _) => Task.FromResult(TinyRun.Dataset());

    public ValueTask InitializeAsync() => ValueTask.CompletedTask;

    public async ValueTask DisposeAsync()
    {
        foreach (var worker in _workers)
        {
            await worker.StopAsync();
            await worker.DisposeAsync();
        }

        await StopCoordinatorAsync();
        _folder.Dispose();
    }

    [Fact]
    public async Task WorkersTrainARunToItsEndAndAResumedAttemptGivesTheSameBits()
    {
        var spec = TinyRun.Spec();
        using var reference = new LoopHarness(spec, 1);
        await reference.RunAsync();
        var store = BlobStore.Open($"folder={_folder.Path}");

        var coordinator = await StartCoordinatorAsync(new FakeCoordinator(spec, 2));
        await StartWorkersAsync(2);
        await coordinator.Finished.WaitAsync(TinyRun.Timeout);
        Assert.Equal(reference.Sink.Curve, coordinator.Curve);
        Assert.Equal(["runs/tiny/checkpoints/00000004", "runs/tiny/checkpoints/00000008", "runs/tiny/checkpoints/00000012"], coordinator.Checkpoints.Select(c => c.Name));
        Assert.NotNull(coordinator.Checkpoints[^1].Loss);
        Assert.Null(await store.TryReadManifestAsync("runs/tiny/checkpoints/00000004"));
        Assert.NotNull(await store.TryReadManifestAsync("runs/tiny/checkpoints/00000008"));
        var final = Hashes(await store.TryReadManifestAsync("runs/tiny/checkpoints/00000012"));

        await StopCoordinatorAsync();
        coordinator = await StartCoordinatorAsync(new FakeCoordinator(spec, 2, 100, "runs/tiny/checkpoints/00000008", attempt: 2));
        await coordinator.Finished.WaitAsync(TinyRun.Timeout);

        // This coordinator knows nothing of the first attempt: the steps before the checkpoint are what it remembers.
        Assert.Equal(reference.Sink.Curve, coordinator.Curve);
        Assert.Equal(final, Hashes(await store.TryReadManifestAsync("runs/tiny/checkpoints/00000012")));
    }

    [Fact]
    public async Task OverMutualTlsTheLossesAreTheSame()
    {
        var spec = TinyRun.Spec();
        using var reference = new LoopHarness(spec, 1);
        await reference.RunAsync();
        using var authority = new TestAuthority();
        _tls = authority.Settings("worker");
        var coordinator = await StartCoordinatorAsync(new FakeCoordinator(spec, 3));
        await StartWorkersAsync(3);
        await coordinator.Finished.WaitAsync(TinyRun.Timeout);
        Assert.Equal(reference.Sink.Curve, coordinator.Curve);
    }

    [Fact]
    public async Task ALateWorkerJoinsALeavingOneGoesAndTheCurveStaysTheSame()
    {
        var coordinator = await StartCoordinatorAsync(new FakeCoordinator(Endless(), 1));
        await StartWorkersAsync(1);
        await coordinator.StepReportedAsync(10);
        await StartWorkersAsync(2);
        await coordinator.EpochReportedAsync(e => e >= 2, 3);
        await _workers[0].StopAsync();
        await coordinator.EpochReportedAsync(e => e >= 3, 2);
        await EndAsync(coordinator);
        Assert.Empty(coordinator.Failures);
        Assert.Equal(await ReferenceAsync(coordinator), coordinator.Curve);
    }

    [Fact]
    public async Task ABrokenRingCostsAnEpochAndNoStep()
    {
        var coordinator = await StartCoordinatorAsync(new FakeCoordinator(Endless(), 3));
        await StartWorkersAsync(3);
        for (var round = 1; round <= 4; round++)
        {
            await coordinator.EpochReportedAsync(e => e >= round, 3);
            var registry = _workers[round % 3].Services.GetRequiredService<RingRegistry>();
            (await registry.WaitForAsync(registry.NewestEpoch, CancellationToken.None)).Abort();
        }

        await coordinator.EpochReportedAsync(e => e >= 5, 3);
        await EndAsync(coordinator);
        Assert.NotEmpty(coordinator.Failures);
        Assert.Equal(await ReferenceAsync(coordinator), coordinator.Curve);
    }

    [Fact]
    public async Task WorkersOutliveTheirCoordinator()
    {
        var first = await StartCoordinatorAsync(new FakeCoordinator(Endless(), 2));
        await StartWorkersAsync(2);
        await first.StepReportedAsync(10);
        await StopCoordinatorAsync();
        var second = await StartCoordinatorAsync(new FakeCoordinator(Endless(), 2, firstEpoch: 50));
        await second.EpochReportedAsync(e => e >= 1, 2);
        await EndAsync(second);
        foreach (var step in first.Steps)
        {
            second.Steps.TryAdd(step.Key, step.Value);
        }

        Assert.Equal(await ReferenceAsync(second), second.Curve);
    }

    [Fact]
    public async Task ACoordinatorThatMovedIsFoundByItsName()
    {
        // The name "localhost" stands for two addresses.
        Assert.SkipUnless(System.Net.Sockets.Socket.OSSupportsIPv6 && System.Net.Dns.GetHostAddresses("localhost").Contains(System.Net.IPAddress.IPv6Loopback), "localhost has one address here.");
        var first = await StartCoordinatorAsync(new FakeCoordinator(Endless(), 2), System.Net.IPAddress.IPv6Loopback);
        await StartWorkersAsync(2);
        await first.StepReportedAsync(5);
        await StopCoordinatorAsync();
        var second = await StartCoordinatorAsync(new FakeCoordinator(Endless(), 2, firstEpoch: 50), System.Net.IPAddress.Loopback);
        await second.EpochReportedAsync(e => e >= 1, 2);
        await EndAsync(second);
    }

    [Fact]
    public async Task ACancellationEndsWithACheckpoint()
    {
        var coordinator = await StartCoordinatorAsync(new FakeCoordinator(TinyRun.Spec(s => s.Training.Steps = 1_000_000), 2));
        await StartWorkersAsync(2);
        await coordinator.StepReportedAsync(5);
        coordinator.Cancel();
        await coordinator.Finished.WaitAsync(TinyRun.Timeout);
        Assert.Equal($"runs/tiny/checkpoints/{coordinator.Steps.Keys.Last():D8}", coordinator.Checkpoints[^1].Name);
    }

    [Fact]
    public async Task ACorruptCheckpointIsNotLoadedAndTheOneBeforeGivesTheSameBits()
    {
        var spec = TinyRun.Spec();
        var first = await StartCoordinatorAsync(new FakeCoordinator(spec, 1));
        await StartWorkersAsync(1);
        await first.Finished.WaitAsync(TinyRun.Timeout);
        await StopCoordinatorAsync();
        var final = Hashes(await BlobStore.Open($"folder={_folder.Path}").TryReadManifestAsync("runs/tiny/checkpoints/00000012"));

        var path = BlobStore.Open($"folder={_folder.Path}").TryGetLocalPath("runs/tiny/checkpoints/00000012/optimizer.safetensors")!;
        var bytes = await File.ReadAllBytesAsync(path);
        bytes[^1000] ^= 1;
        await File.WriteAllBytesAsync(path, bytes);
        var second = await StartCoordinatorAsync(new FakeCoordinator(spec, 1, 100, "runs/tiny/checkpoints/00000012", attempt: 2));
        var failure = await second.FailureAsync();
        Assert.Null(failure.Fatal);
        Assert.Contains("optimizer.safetensors", failure.Message);
        await BlobStore.Open($"folder={_folder.Path}").DeleteDirectoryAsync("runs/tiny/checkpoints/00000012");
        second.BeginFrom("runs/tiny/checkpoints/00000008");
        await second.Finished.WaitAsync(TinyRun.Timeout);
        Assert.Equal(final, Hashes(await BlobStore.Open($"folder={_folder.Path}").TryReadManifestAsync("runs/tiny/checkpoints/00000012")));
    }

    [Fact]
    public async Task AWorkerThatExitsAloneLeavesACheckpoint()
    {
        var coordinator = await StartCoordinatorAsync(new FakeCoordinator(Endless(), 1));
        await StartWorkersAsync(1);
        await coordinator.StepReportedAsync(5);
        await _workers[0].StopAsync();
        var last = coordinator.Checkpoints[^1].Name;
        Assert.True(ResourceName.ParseCheckpoint(last).Step >= coordinator.Steps.Keys.Last());
        Assert.NotNull(await BlobStore.Open($"folder={_folder.Path}").TryReadManifestAsync(last));
    }

    [Fact]
    public async Task ASpecThatCannotBeTrainedIsFatal()
    {
        var coordinator = await StartCoordinatorAsync(new FakeCoordinator(TinyRun.Spec(s => s.Training.MicroBatchSize = 4), 1));
        await StartWorkersAsync(1);
        var error = await Assert.ThrowsAsync<InvalidOperationException>(() => coordinator.Finished.WaitAsync(TinyRun.Timeout));
        Assert.StartsWith("INVALID_SPEC", error.Message);
        Assert.Contains("training.micro_batch_size 4", error.Message);
    }

    // It opens the dataset, makes the network and computes with it before it takes part in anything; what fails there is no failure of the run's.
    [Fact]
    public async Task AWorkerPreparesAndTriesAgainWithTheNextPlan()
    {
        var coordinator = await StartCoordinatorAsync(new PreparingCoordinator());
        _datasets = (_, _) => coordinator.Epoch == 1 ? throw new IOException("The disk is full.") : Task.FromResult(TinyRun.Dataset());
        await StartWorkersAsync(1);
        var failed = await coordinator.HeartbeatAsync(h => h.Failure is not null);
        Assert.Equal((1, "The disk is full.", null, null), (failed.Failure.Epoch, failed.Failure.Message, failed.Failure.Fatal, failed.State));
        coordinator.Epoch = 2;
        var prepared = await coordinator.HeartbeatAsync(h => h.State is not null);
        Assert.Equal(new WorkerState { Run = "runs/tiny", Attempt = 3, Step = -1 }, prepared.State);
        Assert.Null(prepared.Failure);
    }

    private static RunSpec Endless() => TinyRun.Spec(s => (s.Training.Steps, s.Training.CheckpointInterval, s.Training.ValidationInterval) = (100_000, 500, 300));

    private static async Task EndAsync(FakeCoordinator coordinator)
    {
        coordinator.Cancel();
        await coordinator.Finished.WaitAsync(TinyRun.Timeout);
    }

    /// <summary>What one worker computes without any trouble, up to the last step that was reported.</summary>
    private static async Task<object> ReferenceAsync(FakeCoordinator coordinator)
    {
        using var reference = new LoopHarness(Endless(), 1);
        var last = coordinator.Steps.Keys.Last();
        reference.AfterStep = step => reference.Controls[0].StopRequested = step >= last - 1;
        await reference.RunAsync();
        return reference.Sink.Curve;
    }

    private static string Hashes(DirectoryManifest? manifest) => string.Join(' ', manifest!.Files.Where(f => f.Name.EndsWith(".safetensors", StringComparison.Ordinal)).Select(f => f.Name + f.Sha256));

    private async Task<T> StartCoordinatorAsync<T>(T coordinator, System.Net.IPAddress? address = null)
        where T : CoordinatorService.CoordinatorServiceBase
    {
        _coordinator = await TestHost.StartAsync(new System.Net.IPEndPoint(address ?? System.Net.IPAddress.Loopback, _coordinatorPort), b => b.Services.AddSingleton(coordinator), a => a.MapGrpcService<T>(), _tls);
        return coordinator;
    }

    private async Task StopCoordinatorAsync()
    {
        if (_coordinator is { } app)
        {
            _coordinator = null;
            await app.StopAsync(new CancellationToken(true));
            await app.DisposeAsync();
        }
    }

    private async Task StartWorkersAsync(int count)
    {
        for (var i = 0; i < count; i++)
        {
            var port = FreePort.Next();
            _workers.Add(await TestHost.StartAsync(
                port,
                b =>
                {
                    b.Services.AddSingleton(_datasets);
                    b.AddWorker();
                },
                a => a.MapWorker(),
                [.. _tls,
                ("Trainer:Endpoint", $"{(_tls.Length > 0 ? "https" : "http")}://localhost:{_coordinatorPort}"),
                ("Worker:Device", "cpu"),
                ("OTEL_SERVICE_NAME", $"worker-{_workers.Count}"),
                ("ConnectionStrings:storage", $"folder={_folder.Path}"),
                ("GRPC_PORT", $"{port}")]));
        }
    }
}
