using System.Diagnostics;
using OpenTelemetry;
using OpenTelemetry.Resources;
using OpenTelemetry.Trace;

namespace LlmPipeline.Cli;

/// <summary>Begins the trace that a run is in, where OTEL_EXPORTER_OTLP_ENDPOINT says where to send it.</summary>
internal static class CliTracing
{
    private const string Name = "LlmPipeline.Cli";

    private static readonly ActivitySource Source = new(Name);

    /// <summary>Runs a call inside a root span, and sends the span.</summary>
    public static async Task<T> TraceAsync<T>(CliEnvironment environment, string span, Func<Task<T>> call)
    {
        if (string.IsNullOrEmpty(environment.Variable("OTEL_EXPORTER_OTLP_ENDPOINT")))
        {
            return await call();
        }

        // The HTTP client's spans are parents of the server's.
        using var provider = Sdk.CreateTracerProviderBuilder()
            .AddSource(Name, "System.Net.Http")
            .ConfigureResource(r => r.AddService("llmpipe"))
            .AddOtlpExporter()
            .Build();
        using var activity = Source.StartActivity(span, ActivityKind.Client);
        try
        {
            return await call();
        }
        catch (Exception exception)
        {
            activity?.SetStatus(ActivityStatusCode.Error, exception.Message);
            throw;
        }
    }
}
