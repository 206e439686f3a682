using LlmPipeline.Gateway.Catalogue;
using LlmPipeline.Gateway.Engine;
using LlmPipeline.Gateway.Forwarding;
using LlmPipeline.Gateway.Page;
using LlmPipeline.Gateway.Rest;
using LlmPipeline.Gateway.Rpc;
using LlmPipeline.Gateway.Telemetry;
using LlmPipeline.Models;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Microsoft.Extensions.Options;

namespace LlmPipeline.Gateway;

/// <summary>The Gateway's parts, put together.</summary>
internal static class GatewayExtensions
{
    // Forwarded streams end by themselves only when their run does: a stop waits for them no longer than this.
    private static readonly TimeSpan StreamCutTime = TimeSpan.FromSeconds(2);

    public static void AddGateway(this WebApplicationBuilder builder)
    {
        var services = builder.Services;
        services.AddOptions<GatewayOptions>().BindConfiguration(GatewayOptions.Section).ValidateOnStart();
        services.AddSingleton<IValidateOptions<GatewayOptions>, GatewayOptionsValidator>();
        TorchRuntime.Initialize(builder.Configuration.GetSection(TorchRuntimeOptions.Section).Get<TorchRuntimeOptions>());

        services.AddSingleton(TimeProvider.System);
        services.AddSingleton(_ => BlobStore.Open(builder.Configuration.GetConnectionString("storage")));
        services.AddSingleton<ModelLoader>();
        services.AddSingleton<ModelImporter>();
        services.AddSingleton<ModelCatalogue>();
        services.AddHostedService(provider => provider.GetRequiredService<ModelCatalogue>());
        services.AddSingleton<GatewayMetrics>();
        services.AddSingleton<GenerationEngine>();
        services.AddHostedService(provider => provider.GetRequiredService<GenerationEngine>());
        services.AddOptions<HostOptions>().Configure<IOptions<GatewayOptions>>(
            (host, gateway) => host.ShutdownTimeout = TimeSpan.FromSeconds(gateway.Value.StopSeconds) + StreamCutTime);
        services.AddHealthChecks().AddCheck<StorageHealthCheck>("storage");

        services.AddSingleton<CompletionsEndpoint>();
        services.AddSingleton<ClassifyEndpoint>();
        services.AddSingleton<ModelsEndpoint>();
        services.AddLlmPipelineGrpc();
        services.AddReflection();
        services.AddForwarding(builder.Configuration);
        services.AddPage();

        builder.WebHost.ConfigureKestrel(kestrel =>
        {
            kestrel.AddServerHeader = false;
            kestrel.Limits.MaxConcurrentConnections = 10_000;
            kestrel.Limits.RequestHeadersTimeout = TimeSpan.FromSeconds(15);
            kestrel.Limits.Http2.MaxStreamsPerConnection = 256;
            kestrel.Limits.Http2.KeepAlivePingDelay = TimeSpan.FromSeconds(30);
        });
        services.AddOptions<KestrelServerOptions>().Configure<IOptions<GatewayOptions>>(
            (kestrel, gateway) => kestrel.Limits.MaxRequestBodySize = Math.Max(GrpcDefaults.MaxMessageBytes, gateway.Value.MaxBodyBytes));
    }

    public static void MapGateway(this WebApplication app)
    {
        app.UseSecurityHeaders();
        app.UsePage();
        app.UseRouting();

        app.MapGet("/v1/models", (ModelsEndpoint models) => models.List());
        app.MapGet("/v1/models/{**id}", (ModelsEndpoint models, HttpContext context, string id) => models.GetAsync(context, id));
        app.MapPost("/v1/completions", (CompletionsEndpoint completions, HttpContext context) => completions.HandleAsync(context));
        app.MapPost("/v1/classify", (ClassifyEndpoint classify, HttpContext context) => classify.HandleAsync(context));
        app.MapFallback("/v1/{**path}", context => OpenAiErrors.WriteAsync(
            context, StatusCodes.Status404NotFound, $"There is no {context.Request.Method} {context.Request.Path}. See GET /v1/models, POST /v1/completions and POST /v1/classify.", "unknown_url"));

        app.MapGrpcService<InferenceGrpcService>();
        app.MapReflection();
        app.MapForwarding();
        app.MapPage();
    }
}

/// <summary>Ready means: storage has been read, and could be at the last look.</summary>
internal sealed class StorageHealthCheck(ModelCatalogue catalogue) : IHealthCheck
{
    public Task<HealthCheckResult> CheckHealthAsync(HealthCheckContext context, CancellationToken cancellationToken = default) => Task.FromResult(
        catalogue.StorageFailure is { } failure ? HealthCheckResult.Unhealthy("Storage cannot be read.", failure)
        : catalogue.HasLooked ? HealthCheckResult.Healthy()
        : HealthCheckResult.Unhealthy("Storage has not been read yet."));
}
