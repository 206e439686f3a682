using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;
using LlmPipeline.Trainer.Collectives;
using LlmPipeline.Workers.V1;
using Microsoft.Extensions.DependencyInjection.Extensions;

namespace LlmPipeline.Trainer.Worker;

/// <summary>The worker role of the trainer.</summary>
internal static class WorkerExtensions
{
    /// <summary>A coordinator that has moved, and left another that stands by where it was, is found by its name after as long.</summary>
    private static readonly TimeSpan CoordinatorLookup = TimeSpan.FromSeconds(10);

    /// <summary>Adds the worker's services.</summary>
    public static WebApplicationBuilder AddWorker(this WebApplicationBuilder builder)
    {
        builder.Services.AddOptions<WorkerOptions>().BindConfiguration(WorkerOptions.Section);
        builder.Services.AddGrpc();
        builder.Services.TryAddSingleton(services => BlobStore.Open(services.GetRequiredService<IConfiguration>().GetConnectionString("storage")));
        builder.Services.TryAddSingleton(services => StoredDatasets.In(services.GetRequiredService<IBlobStore>()));
        builder.Services.TryAddSingleton<TrainerMetrics>();
        builder.Services.AddSingleton<RingRegistry>();
        builder.Services.AddSingleton<ReplicaHolder>();
        var network = builder.Configuration.GetSection(ExchangeOptions.Section).Get<ExchangeOptions>() ?? new ExchangeOptions();
        builder.Services.TryAddSingleton<TlsCertificates>();
        builder.Services.AddSingleton(services => new PeerConnections(network, services.GetRequiredService<TlsCertificates>()));
        builder.Services.AddSingleton(services => new CoordinatorService.CoordinatorServiceClient(services.GetRequiredService<PeerConnections>().Channel(
            services.GetRequiredService<IConfiguration>()["Trainer:Endpoint"]
            ?? throw new InvalidOperationException("Trainer:Endpoint is not set; use the coordinator's gRPC URL, for example http://localhost:5302."), CoordinatorLookup)));
        builder.Services.AddHostedService<WorkerService>();

        builder.Services.AddGradientStreams(network);
        return builder;
    }

    /// <summary>Maps what peers call.</summary>
    public static WebApplication MapWorker(this WebApplication app)
    {
        app.MapGrpcService<PeerStateService>();
        app.MapGrpcService<PeerGradientService>();
        return app;
    }
}
