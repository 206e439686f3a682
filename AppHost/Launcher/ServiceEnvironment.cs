using System.Globalization;

namespace LlmPipeline.AppHost.Launcher;

/// <summary>The environment of a resource's process: what Aspire gives it, as far as our services look at it.</summary>
internal static class ServiceEnvironment
{
    public static IReadOnlyDictionary<string, string?> Of(
        ProcessResource resource, LauncherSettings settings, string? otlpEndpoint, bool coloured)
    {
        var environment = new Dictionary<string, string?>
        {
            // The launcher's own address is nobody else's.
            ["ASPNETCORE_URLS"] = null,
            ["LLMPIPELINE_PARENT_PID"] = Environment.ProcessId.ToString(CultureInfo.InvariantCulture),
            ["Logging__Console__FormatterName"] = "simple",
            ["Logging__Console__FormatterOptions__SingleLine"] = "true",
            ["OTEL_SERVICE_NAME"] = resource.Name,
            ["OTEL_RESOURCE_ATTRIBUTES"] = $"service.instance.id={Guid.NewGuid().ToString("N")[..8]}",
        };
        if (coloured)
        {
            environment["DOTNET_SYSTEM_CONSOLE_ALLOW_ANSI_COLOR_REDIRECTION"] = "true";
        }

        if (!settings.ShowsAllLogs)
        {
            environment["Logging__Console__LogLevel__Default"] = "Warning";
        }

        if (otlpEndpoint is not null)
        {
            environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = otlpEndpoint;
            environment["OTEL_DOTNET_EXPERIMENTAL_OTLP_RETRY"] = "in_memory";
            environment["OTEL_BSP_SCHEDULE_DELAY"] = "1000";
            environment["OTEL_BLRP_SCHEDULE_DELAY"] = "1000";
            environment["OTEL_METRIC_EXPORT_INTERVAL"] = "1000";
        }

        foreach (var endpoint in resource.Endpoints.Where(endpoint => endpoint.Variable is not null))
        {
            environment[endpoint.Variable!] = endpoint.Port?.ToString(CultureInfo.InvariantCulture);
        }

        var urls = resource.Endpoints.Where(endpoint => endpoint.Variable is null).Select(endpoint => endpoint.Url).ToList();
        if (urls.Count > 0)
        {
            environment["ASPNETCORE_URLS"] = string.Join(';', urls);
        }

        foreach (var (name, value) in resource.Environment)
        {
            environment[name] = value();
        }

        return environment;
    }
}
