using System.Globalization;

namespace LlmPipeline.AppHost.Launcher;

/// <summary>The Aspire dashboard on its own, started where the Aspire CLI is installed.</summary>
internal sealed class Dashboard : IDisposable
{
    private const int UsualPort = 18888;
    private const int UsualOtlpPort = 4317;

    private static readonly TimeSpan Grace = TimeSpan.FromSeconds(1);

    private readonly ServiceProcess _process;

    private Dashboard(ServiceProcess process, string url, string otlpEndpoint)
    {
        _process = process;
        Url = url;
        OtlpEndpoint = otlpEndpoint;
    }

    /// <summary>The page.</summary>
    public string Url { get; }

    /// <summary>Where services send their telemetry (OTLP over gRPC).</summary>
    public string OtlpEndpoint { get; }

    /// <summary>Starts the dashboard; null where there is no Aspire CLI. It takes some seconds to answer, and nobody waits for it.</summary>
    public static Dashboard? Start(Terminal terminal, Guardian guardian)
    {
        if (FindCli() is not { } cli)
        {
            return null;
        }

        var url = LocalUrl(UsualPort);
        var otlp = LocalUrl(UsualOtlpPort);
        var process = ServiceProcess.Start(
            [cli, "dashboard", "run", "--allow-anonymous", "--non-interactive", "--frontend-url", url, "--otlp-grpc-url", otlp,
                "--otlp-http-url", LocalUrl(UsualOtlpPort + 1)],
            Environment.CurrentDirectory,
            // The AppHost's launch profile is not the dashboard's.
            [new("ASPNETCORE_URLS", null), new("ASPNETCORE_ENVIRONMENT", null), new("DOTNET_ENVIRONMENT", null)],
            _ => { },
            guardian);
        var dashboard = new Dashboard(process, url, otlp);
        _ = dashboard.ReportEndAsync(terminal);
        return dashboard;
    }

    public async Task StopAsync(CancellationToken kill) => await _process.StopAsync(Grace, kill);

    public void Dispose() => _process.Dispose();

    private static string LocalUrl(int usualPort) => string.Create(
        CultureInfo.InvariantCulture, $"http://localhost:{(PortAllocator.IsFree(usualPort) ? usualPort : PortAllocator.FindFree())}");

    private static string? FindCli()
    {
        var name = OperatingSystem.IsWindows() ? "aspire.exe" : "aspire";
        var home = Environment.GetFolderPath(Environment.SpecialFolder.UserProfile);
        return (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries)
            .Append(Path.Combine(home, ".aspire", "bin"))
            .Select(folder => Path.Combine(folder, name))
            .FirstOrDefault(File.Exists);
    }

    private async Task ReportEndAsync(Terminal terminal)
    {
        var code = await _process.WaitForExitAsync();
        if (code is not (0 or 130 or 137 or 143))
        {
            terminal.WriteError($"The Aspire dashboard ended with exit code {code}: {string.Join(" ", _process.LastLines.TakeLast(2))}");
        }
    }
}
