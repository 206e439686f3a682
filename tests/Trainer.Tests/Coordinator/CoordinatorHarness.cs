using Grpc.Core;
using Grpc.Net.Client;
using LlmPipeline.Datasets.V1;
using LlmPipeline.Fakes;
using LlmPipeline.Runs.V1;
using LlmPipeline.Storage;
using LlmPipeline.Trainer.Coordinator;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using State = LlmPipeline.Runs.V1.Run.Types.State;

namespace LlmPipeline.Trainer.Tests.Coordinator;

/// <summary>A real coordinator on a loopback port that can be restarted, between a fake Preprocessor, Evaluator and workers.</summary>
internal sealed class CoordinatorHarness : IAsyncDisposable
{
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly TemporaryFolder _folder = new();
    private readonly int _port = FreePort.Next();
    private readonly int _servicesPort = FreePort.Next();
    private readonly GrpcChannel _channel;
    private readonly (string, string)[] _settings;
    private WebApplication? _services;
    private WebApplication? _coordinator;

    private CoordinatorHarness((string, string)[] settings)
    {
        _settings = settings;
        Store = BlobStore.Open($"folder={_folder.Path}");
        Workers = new FakeWorkers($"http://127.0.0.1:{_port}", Store);
        _channel = GrpcChannel.ForAddress($"http://127.0.0.1:{_port}", new GrpcChannelOptions { InitialReconnectBackoff = TimeSpan.FromMilliseconds(50), MaxReconnectBackoff = TimeSpan.FromMilliseconds(200) });
        Runs = new RunService.RunServiceClient(_channel);
    }

    public IBlobStore Store { get; }

    /// <summary>The clock of coordinators that are started from now on.</summary>
    public TimeProvider Time { get; set; } = TimeProvider.System;

    public FakePreprocessor Preprocessor { get; } = new();

    public FakeEvaluator Evaluator { get; } = new();

    public FakeWorkers Workers { get; }

    public RunService.RunServiceClient Runs { get; }

    /// <summary>The services of the running coordinator.</summary>
    public IServiceProvider Coordinator => _coordinator!.Services;

    public static async Task<CoordinatorHarness> StartAsync(params (string Key, string Value)[] settings)
    {
        var harness = new CoordinatorHarness(settings);
        await harness.StartServicesAsync();
        await harness.StartCoordinatorAsync();
        return harness;
    }

    public async Task StartServicesAsync() => _services = await TestHost.StartAsync(_servicesPort, builder =>
    {
        builder.Services.AddSingleton(Preprocessor);
        builder.Services.AddSingleton(Evaluator);
    }, app =>
    {
        app.MapGrpcService<FakePreprocessor>();
        app.MapGrpcService<FakeEvaluator>();
    });

    public async Task StopServicesAsync()
    {
        await _services!.DisposeAsync();
        _services = null;
    }

    public async Task StartCoordinatorAsync()
    {
        _coordinator = await StartOneAsync(_port);
        await WaitUntilAsync("the coordinator is in charge", () => Coordinator.GetRequiredService<RunCatalog>().IsOpen);
    }

    /// <summary>Starts a coordinator over the same storage on any port; it is not waited for.</summary>
    public Task<WebApplication> StartOneAsync(int port) => TestHost.StartAsync(port, builder =>
    {
        builder.Services.AddSingleton(Time);
        builder.AddCoordinator();
    }, app => app.MapCoordinator(),
    [
        ("ConnectionStrings:storage", $"folder={_folder.Path}"),
        ("Preprocessor:Endpoint", $"http://127.0.0.1:{_servicesPort}"),
        ("Evaluator:Endpoint", $"http://127.0.0.1:{_servicesPort}"),
        .. _settings,
    ]);

    public async Task StopCoordinatorAsync()
    {
        await _coordinator!.StopAsync().WaitAsync(Patience);
        await _coordinator.DisposeAsync();
        _coordinator = null;
    }

    public async Task RestartAsync()
    {
        await StopCoordinatorAsync();
        await StartCoordinatorAsync();
    }

    public static RunSpec Spec(Action<RunSpec>? change = null)
    {
        var spec = new RunSpec
        {
            Dataset = new DatasetSpec { Sources = { "a.txt" } },
            Model = new ModelSpec { Preset = "gpt-nano" },
            Training = new TrainingSpec { Steps = 12, BatchSize = 4, MicroBatchSize = 1, ValidationInterval = 5, CheckpointInterval = 4, KeepCheckpoints = 9 },
        };
        change?.Invoke(spec);
        return spec;
    }

    public async Task<Run> CreateAsync(string id = "some-run", Action<RunSpec>? change = null) =>
        (await Runs.CreateRunAsync(new CreateRunRequest { RunId = id, Spec = Spec(change) })).Run;

    public async Task<Run> GetAsync(string id = "some-run") => (await Runs.GetRunAsync(new GetRunRequest { Name = $"runs/{id}" })).Run;

    public Task<Run> WaitAsync(State state, string id = "some-run") => WaitAsync($"{state}", r => r.State == state, id);

    /// <summary>Follows a run until a condition holds.</summary>
    public async Task<Run> WaitAsync(string what, Func<Run, bool> condition, string id = "some-run")
    {
        using var timeout = new CancellationTokenSource(Patience);
        Run? last = null;
        try
        {
            using var watch = Runs.WatchRun(new WatchRunRequest { Name = $"runs/{id}" }, cancellationToken: timeout.Token);
            await foreach (var message in watch.ResponseStream.ReadAllAsync(timeout.Token))
            {
                last = message.Run;
                if (condition(last))
                {
                    return last;
                }
            }
        }
        catch (RpcException) when (timeout.IsCancellationRequested)
        {
        }

        throw new TimeoutException($"runs/{id} did not come to '{what}'; it is {last?.State}, step {last?.Progress?.Step}, {last?.Error}\n{string.Join('\n', last?.Events.Select(e => $"{e.Kind} {e.Message}") ?? [])}");
    }

    public static async Task WaitUntilAsync(string what, Func<bool> condition)
    {
        var end = DateTime.UtcNow + Patience;
        while (!condition())
        {
            Assert.True(DateTime.UtcNow < end, $"'{what}' did not come true.");
            await Task.Delay(10);
        }
    }

    public async Task<IReadOnlyList<StepMetrics>> MetricsAsync(string id = "some-run") =>
        (await Runs.ListStepMetricsAsync(new ListStepMetricsRequest { Name = $"runs/{id}" })).Metrics;

    public async ValueTask DisposeAsync()
    {
        await Workers.DisposeAsync();
        _channel.Dispose();
        if (_coordinator is not null)
        {
            await StopCoordinatorAsync();
        }

        if (_services is not null)
        {
            await StopServicesAsync();
        }

        _folder.Dispose();
    }
}
