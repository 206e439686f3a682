using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Http.Json;
using System.Text.Json;
using System.Text.Json.Nodes;
using LlmPipeline.Fakes;

namespace LlmPipeline.EndToEnd.Tests.Tracing;

/// <summary>The real Aspire dashboard, from the npm package of the Aspire CLI, on free ports.</summary>
internal sealed class AspireDashboard : IAsyncDisposable
{
    private const string Package = "@microsoft/aspire-cli-linux-x64";
    private const string Version = "13.5.4";

    private static readonly TimeSpan InstallLimit = TimeSpan.FromMinutes(5);
    private static readonly TimeSpan StartLimit = TimeSpan.FromMinutes(2);

    private readonly Process _process;
    private readonly HttpClient _http;

    private AspireDashboard(Process process, int port, string otlpEndpoint)
    {
        _process = process;
        OtlpEndpoint = otlpEndpoint;
        _http = new HttpClient { BaseAddress = new Uri(string.Create(CultureInfo.InvariantCulture, $"http://localhost:{port}")) };
    }

    /// <summary>Where to send telemetry: OTLP over gRPC.</summary>
    public string OtlpEndpoint { get; }

    /// <summary>The page.</summary>
    public Uri Page => _http.BaseAddress!;

    /// <summary>Installs the CLI in a cache folder, with a home of its own, and starts the dashboard.</summary>
    public static async Task<AspireDashboard> StartAsync()
    {
        var folder = await NpmPackage.InstallAsync(Package, Version);
        var home = Directory.CreateDirectory(Path.Combine(folder, "home")).FullName;
        var cli = Path.Combine(folder, "node_modules", Package, "bin", "aspire");
        await RunAsync(cli, ["setup", "--non-interactive"], home);

        var (frontend, otlp, otlpHttp) = (FreePort.Next(), FreePort.Next(), FreePort.Next());
        var otlpUrl = string.Create(CultureInfo.InvariantCulture, $"http://localhost:{otlp}");
        var process = Start(cli, ["dashboard", "run", "--allow-anonymous", "--non-interactive",
            "--frontend-url", $"http://localhost:{frontend}", "--otlp-grpc-url", otlpUrl, "--otlp-http-url", $"http://localhost:{otlpHttp}"], home);
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        var dashboard = new AspireDashboard(process, frontend, otlpUrl);
        using var patience = new CancellationTokenSource(StartLimit);
        while (!await dashboard.AnswersAsync(patience.Token))
        {
            await Task.Delay(200, patience.Token);
        }

        return dashboard;
    }

    /// <summary>The spans of a trace that have ended, as names by service.</summary>
    public async Task<ILookup<string, string>> SpansOfAsync(string traceId, CancellationToken cancellationToken)
    {
        using var response = await _http.GetAsync(new Uri($"api/telemetry/traces/{traceId}", UriKind.Relative), cancellationToken);
        if (response.StatusCode == HttpStatusCode.NotFound)
        {
            return Array.Empty<string>().ToLookup(name => name);
        }

        response.EnsureSuccessStatusCode();
        var trace = await response.Content.ReadFromJsonAsync<JsonNode>(cancellationToken);
        return trace!["data"]!["resourceSpans"]!.AsArray()
            .SelectMany(resource => resource!["scopeSpans"]!.AsArray()
                .SelectMany(scope => scope!["spans"]!.AsArray())
                .Select(span => (Service: ServiceOf(resource["resource"]!), Name: span!["name"]!.GetValue<string>())))
            .ToLookup(span => span.Service, span => span.Name);
    }

    public async ValueTask DisposeAsync()
    {
        _http.Dispose();
        _process.Kill(entireProcessTree: true);
        await _process.WaitForExitAsync().WaitAsync(TimeSpan.FromSeconds(30));
        _process.Dispose();
    }

    private static string ServiceOf(JsonNode resource) => resource["attributes"]!.AsArray()
        .First(attribute => attribute!["key"]!.GetValue<string>() == "service.name")!["value"]!["stringValue"]!.GetValue<string>();

    private static async Task RunAsync(string program, string[] arguments, string? home)
    {
        using var process = Start(program, arguments, home);
        using var patience = new CancellationTokenSource(InstallLimit);
        var (output, error) = (process.StandardOutput.ReadToEndAsync(patience.Token), process.StandardError.ReadToEndAsync(patience.Token));
        await process.WaitForExitAsync(patience.Token);
        Assert.True(
            process.ExitCode == 0,
            $"'{program} {string.Join(' ', arguments)}' ended with {process.ExitCode}:\n{await output}\n{await error}");
    }

    private static Process Start(string program, string[] arguments, string? home)
    {
        var start = new ProcessStartInfo(program, arguments)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment["ASPIRE_CLI_TELEMETRY_OPTOUT"] = "1";
        if (home is not null)
        {
            // A ~/.aspire in the user's home would switch the AppHost to Aspire.
            start.Environment["HOME"] = home;
        }

        var process = Process.Start(start)!;
        process.StandardInput.Close();
        return process;
    }

    private async Task<bool> AnswersAsync(CancellationToken cancellationToken)
    {
        try
        {
            return await _http.GetFromJsonAsync<JsonElement[]>(new Uri("api/telemetry/resources", UriKind.Relative), cancellationToken) is not null;
        }
        catch (HttpRequestException) when (!_process.HasExited)
        {
            return false;
        }
    }
}
