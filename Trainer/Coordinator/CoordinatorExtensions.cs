using LlmPipeline.Datasets.V1;
using LlmPipeline.Evaluations.V1;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;
using LlmPipeline.Trainer.Coordinator.Reports;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Microsoft.Extensions.Options;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary>The coordinator role of the trainer.</summary>
internal static class CoordinatorExtensions
{
    /// <summary>Adds the coordinator's services.</summary>
    public static WebApplicationBuilder AddCoordinator(this WebApplicationBuilder builder)
    {
        var services = builder.Services;
        services.AddLlmPipelineGrpc();
        services.AddOptions<CoordinatorOptions>().BindConfiguration(CoordinatorOptions.Section);
        services.TryAddSingleton(TimeProvider.System);
        services.TryAddSingleton<TlsCertificates>();
        services.TryAddSingleton(_ => BlobStore.Open(builder.Configuration.GetConnectionString("storage")));
        services.AddSingleton<RunCatalog>();
        services.AddSingleton<StepMetricsCatalog>();
        services.AddSingleton<EpochCounter>();
        services.AddSingleton(s => new EpochManager(s.GetRequiredService<TimeProvider>(), new EpochTimings
        {
            Lost = TimeSpan.FromSeconds(s.GetRequiredService<IOptions<CoordinatorOptions>>().Value.WorkerLostSeconds),
        }));
        services.AddSingleton<PreparingStage>();
        services.AddSingleton<TrainingStage>();
        services.AddSingleton<EvaluatingStage>();
        services.AddSingleton<PublishingStage>();
        services.AddSingleton<RunReports>();
        services.AddSingleton<RunStages>();
        services.AddActivatedSingleton<CoordinatorMetrics>();
        services.AddHostedService<RunEngine>();
        services.AddHealthChecks().AddCheck<InChargeCheck>("coordinator");
        AddClient<DatasetService.DatasetServiceClient>("Preprocessor:Endpoint", "http://localhost:5301");
        AddClient<EvaluationService.EvaluationServiceClient>("Evaluator:Endpoint", "http://localhost:5303");
        return builder;

        void AddClient<T>(string key, string example) where T : class
        {
            var address = builder.Configuration[key] ?? throw new InvalidOperationException($"{key} is not set; use that service's gRPC URL, for example {example}.");
            services.AddGrpcClient<T>(client => client.Address = new Uri(address)).ConfigurePrimaryHttpMessageHandler(provider => new SocketsHttpHandler
            {
                SslOptions = provider.GetRequiredService<TlsCertificates>().Client(),

                // Watches stay open for long: a silent peer is noticed by its missing answer to a ping.
                KeepAlivePingDelay = TimeSpan.FromSeconds(5),
                KeepAlivePingTimeout = TimeSpan.FromSeconds(10),
                KeepAlivePingPolicy = HttpKeepAlivePingPolicy.WithActiveRequests,
                ConnectTimeout = TimeSpan.FromSeconds(5),
                EnableMultipleHttp2Connections = true,
            });
        }
    }

    /// <summary>Maps what callers and workers call.</summary>
    public static WebApplication MapCoordinator(this WebApplication app)
    {
        app.MapGrpcService<RunGrpcService>();
        app.MapGrpcService<CoordinatorGrpcService>();
        return app;
    }

    private sealed class InChargeCheck(RunCatalog runs) : IHealthCheck
    {
        public Task<HealthCheckResult> CheckHealthAsync(HealthCheckContext context, CancellationToken cancellationToken = default) => Task.FromResult(runs.IsOpen
            ? HealthCheckResult.Healthy("in charge")
            : HealthCheckResult.Unhealthy("starting, or standing by while another coordinator holds the lease"));
    }
}
