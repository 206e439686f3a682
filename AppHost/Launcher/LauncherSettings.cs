using Microsoft.Extensions.Configuration;

namespace LlmPipeline.AppHost.Launcher;

/// <summary>What the launcher itself takes from the configuration.</summary>
internal sealed class LauncherSettings(IConfiguration configuration)
{
    /// <summary>Show everything the services log; else, beside a quick start's own output, warnings and errors alone.</summary>
    public bool ShowsAllLogs => IsOn("verbose") || !IsOn("quickstart");

    /// <summary>A collector that the user runs.</summary>
    public string? OtlpEndpoint => configuration["OTEL_EXPORTER_OTLP_ENDPOINT"];

    /// <summary>Whether the Aspire dashboard may be started where its CLI is installed: <c>--Launcher:Dashboard=false</c> forbids it.</summary>
    public bool AllowsDashboard => configuration.GetValue("Launcher:Dashboard", true);

    /// <summary>How often a service that ends by itself is started again before the launcher gives it up.</summary>
    public int MaxRestarts => configuration.GetValue("Launcher:MaxRestarts", 5);

    /// <summary>Pause before the first restart; doubled for each further one.</summary>
    public TimeSpan RestartDelay => TimeSpan.FromSeconds(configuration.GetValue("Launcher:RestartDelaySeconds", 1.0));

    private bool IsOn(string flag) => configuration[flag] is { Length: > 0 } value && value is not ("false" or "0");
}

/// <summary>Something that the user can mend; its message is all there is to show.</summary>
internal sealed class LauncherException(string message) : Exception(message);
