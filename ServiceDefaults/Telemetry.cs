using System.Diagnostics;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using OpenTelemetry;
using OpenTelemetry.Metrics;
using OpenTelemetry.Resources;
using OpenTelemetry.Trace;

namespace LlmPipeline.ServiceDefaults;

/// <summary>Traces, metrics and logs of a service, exported over OTLP where OTEL_EXPORTER_OTLP_ENDPOINT says so.</summary>
internal static class Telemetry
{
    // Asked for all the time, by probes, workers and the page: as spans they would bury the runs.
    private static readonly string[] UntracedPaths =
    [
        "/health/",
        "/grpc.health.v1.",
        "/grpc.reflection.",
        "/llmpipeline.workers.v1.",
        "/api/",
        "/v1/models",
    ];

    /// <summary>Log levels where the configuration names none: requests and calls are spans, and need no lines.</summary>
    public static void AddQuietLogs(this IHostApplicationBuilder builder) =>
        builder.Services.Insert(0, ServiceDescriptor.Singleton<IConfigureOptions<LoggerFilterOptions>>(
            new ConfigureOptions<LoggerFilterOptions>(filters => filters
                .AddFilter("Microsoft.AspNetCore", LogLevel.Warning)
                .AddFilter("Grpc", LogLevel.Warning)
                .AddFilter("System.Net.Http.HttpClient", LogLevel.Warning)
                // Who asks learns that a check fails; a line for each question of a waiting launcher says no more.
                .AddFilter("Microsoft.Extensions.Diagnostics.HealthChecks", LogLevel.Critical))));

    public static void AddTelemetry(this IHostApplicationBuilder builder)
    {
        builder.Logging.AddOpenTelemetry(logging =>
        {
            logging.IncludeFormattedMessage = true;
            logging.IncludeScopes = true;
        });
        var telemetry = builder.Services.AddOpenTelemetry()
            .WithMetrics(metrics => metrics
                .AddAspNetCoreInstrumentation()
                .AddHttpClientInstrumentation()
                .AddRuntimeInstrumentation()
                .AddMeter("LlmPipeline.*"))
            .WithTracing(tracing => tracing
                .AddSource("LlmPipeline.*")
                .AddAspNetCoreInstrumentation(server =>
                {
                    server.Filter = context => IsTraced(context.Request.Path.Value);
                    server.EnrichWithHttpResponse = NameServerSpan;
                })
                .AddHttpClientInstrumentation(client =>
                {
                    client.FilterHttpRequestMessage = request => IsTraced(request.RequestUri?.AbsolutePath);
                    client.EnrichWithHttpRequestMessage = NameClientSpan;
                }));

        // OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES are read by the SDK itself.
        if (string.IsNullOrEmpty(builder.Configuration["OTEL_SERVICE_NAME"]))
        {
            telemetry.ConfigureResource(resource => resource.AddService(builder.Environment.ApplicationName));
        }

        if (!string.IsNullOrWhiteSpace(builder.Configuration["OTEL_EXPORTER_OTLP_ENDPOINT"]))
        {
            telemetry.UseOtlpExporter();
        }
    }

    /// <summary>Whether a request to this path becomes a span.</summary>
    internal static bool IsTraced(PathString path) =>
        !UntracedPaths.Any(prefix => (path.Value ?? "").StartsWith(prefix, StringComparison.Ordinal));

    // The name of a span of a forwarded call would be that of the proxy's route.
    private static void NameServerSpan(Activity activity, HttpResponse response)
    {
        var request = response.HttpContext.Request;
        if (request.ContentType?.StartsWith("application/grpc", StringComparison.Ordinal) == true && request.Path.Value is { } path)
        {
            activity.DisplayName = path.TrimStart('/');
            activity.SetTag("rpc.system", "grpc");
        }
    }

    private static void NameClientSpan(Activity activity, HttpRequestMessage request)
    {
        if (request.Content?.Headers.ContentType?.MediaType == "application/grpc" && request.RequestUri is { } uri)
        {
            activity.DisplayName = uri.AbsolutePath.TrimStart('/');
            activity.SetTag("rpc.system", "grpc");
        }
    }
}
