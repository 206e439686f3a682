using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Diagnostics.HealthChecks;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Microsoft.Extensions.Hosting;

namespace LlmPipeline.ServiceDefaults;

/// <summary>What every service has: telemetry, health, discovery, resilience, two endpoints (HTTP/1.1 and gRPC).</summary>
public static class Extensions
{
    /// <summary>Tag of the checks that say whether the process works at all; every other check counts for readiness only.</summary>
    public const string LiveTag = "live";

    /// <summary>
    /// Adds OpenTelemetry (sources and meters <c>LlmPipeline.*</c>, OTLP where configured), health checks, service discovery,
    /// and Kestrel endpoints: ASPNETCORE_URLS for HTTP/1.1, and GRPC_PORT for HTTP/2 without TLS.
    /// </summary>
    public static TBuilder AddServiceDefaults<TBuilder>(this TBuilder builder) where TBuilder : IHostApplicationBuilder
    {
        builder.AddQuietLogs();
        builder.AddTelemetry();
        builder.AddEndpoints();
        builder.Services.AddParentWatch(builder.Configuration);

        builder.Services.AddHealthChecks().AddCheck("self", () => HealthCheckResult.Healthy(), [LiveTag]);
        builder.Services.AddGrpc();
        builder.Services.AddGrpcHealthChecks(health => health.Services.Map("", _ => true));

        builder.Services.AddServiceDiscovery();
        builder.Services.ConfigureHttpClientDefaults(http => http.AddPlainHttpResilience().AddServiceDiscovery());
        return builder;
    }

    /// <summary>
    /// Maps <c>/health/live</c> (the process answers), <c>/health/ready</c> (all checks pass) and the gRPC health service,
    /// in every environment: a cluster's probes ask for them too.
    /// </summary>
    public static WebApplication MapDefaultEndpoints(this WebApplication app)
    {
        app.MapHealthChecks("/health/live", new HealthCheckOptions { Predicate = check => check.Tags.Contains(LiveTag) });
        app.MapHealthChecks("/health/ready");
        app.MapGrpcHealthChecksService();
        return app;
    }
}
