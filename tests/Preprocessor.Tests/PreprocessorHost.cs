using Grpc.Net.Client;
using LlmPipeline.Datasets.V1;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace LlmPipeline.Preprocessor.Tests;

/// <summary>The service on free loopback ports, in this process.</summary>
internal sealed class PreprocessorHost : IAsyncDisposable
{
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly WebApplication _app;
    private readonly GrpcChannel _channel;

    private PreprocessorHost(WebApplication app)
    {
        _app = app;
        var addresses = app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses;
        _channel = GrpcChannel.ForAddress(addresses.Last());
        Datasets = new DatasetService.DatasetServiceClient(_channel);
        Tokenizers = new TokenizerService.TokenizerServiceClient(_channel);
    }

    public static DateTime Deadline => DateTime.UtcNow + Patience;

    public DatasetService.DatasetServiceClient Datasets { get; }

    public TokenizerService.TokenizerServiceClient Tokenizers { get; }

    public IServiceProvider Services => _app.Services;

    public static Task<PreprocessorHost> StartAsync(string storage, params (string Key, string Value)[] settings) => StartAsync(storage, store: null, settings);

    /// <summary>The same with another store than the folder's.</summary>
    public static async Task<PreprocessorHost> StartAsync(string storage, IBlobStore? store, params (string Key, string Value)[] settings)
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Configuration.AddInMemoryCollection(new Dictionary<string, string?>
        {
            ["urls"] = "http://127.0.0.1:0",
            ["GRPC_PORT"] = "0",
            ["ConnectionStrings:storage"] = $"folder={storage}",
        });
        builder.Configuration.AddInMemoryCollection(settings.Select(s => KeyValuePair.Create(s.Key, (string?)s.Value)));
        builder.Logging.ClearProviders();
        builder.AddServiceDefaults();
        builder.AddPreprocessor();
        if (store is not null)
        {
            builder.Services.AddSingleton(store);
        }

        var app = builder.Build();
        app.MapDefaultEndpoints();
        app.MapPreprocessor();
        await app.StartAsync().WaitAsync(Patience);
        return new PreprocessorHost(app);
    }

    public async Task<Dataset> CreateAsync(DatasetSpec spec, string id = "") =>
        (await Datasets.CreateDatasetAsync(new CreateDatasetRequest { DatasetId = id, Spec = spec }, deadline: Deadline)).Dataset;

    /// <summary>Watches a dataset to its end and returns all that was seen.</summary>
    public async Task<List<WatchDatasetResponse>> WatchAsync(string name, long after = 0)
    {
        using var call = Datasets.WatchDataset(new WatchDatasetRequest { Name = name, AfterSequence = after }, deadline: Deadline);
        var seen = new List<WatchDatasetResponse>();
        while (await call.ResponseStream.MoveNext(CancellationToken.None))
        {
            seen.Add(call.ResponseStream.Current);
        }

        return seen;
    }

    public async ValueTask DisposeAsync()
    {
        _channel.Dispose();
        await _app.StopAsync().WaitAsync(Patience);
        await _app.DisposeAsync();
    }
}
