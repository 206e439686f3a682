using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.Hosting;

namespace LlmPipeline.ServiceDefaults;

/// <summary>What every service has: telemetry, health, discovery, resilience, two endpoints (HTTP/1.1 and gRPC).</summary>
public static class Extensions
{
    /// <summary>
    /// Adds OpenTelemetry (sources and meters <c>LlmPipeline.*</c>, OTLP where configured), health checks, service discovery,
    /// and Kestrel endpoints: ASPNETCORE_URLS for HTTP/1.1, and GRPC_PORT for HTTP/2 without TLS.
    /// </summary>
    public static TBuilder AddServiceDefaults<TBuilder>(this TBuilder builder) where TBuilder : IHostApplicationBuilder => builder;

    /// <summary>Maps <c>/health/live</c> and <c>/health/ready</c> and gRPC health.</summary>
    public static WebApplication MapDefaultEndpoints(this WebApplication app) => app;
}
