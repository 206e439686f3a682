using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using Xunit;

namespace LlmPipeline.Fakes;

/// <summary>Azure's storage emulator, from npm, in memory. Where <c>LLMPIPELINE_NPM</c> is not 1 its tests skip.</summary>
public sealed class Azurite : IAsyncLifetime
{
    private const string Version = "3.37.0";
    private static readonly TimeSpan StartTime = TimeSpan.FromMinutes(3);

    private readonly TemporaryFolder _cache = new();
    private Process? _process;
    private int _port;

    public string ConnectionString =>
        "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;"
        + "AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;"
        + $"BlobEndpoint=http://127.0.0.1:{_port}/devstoreaccount1;";

    public async ValueTask InitializeAsync()
    {
        if (!NpmPackage.IsWanted)
        {
            return;
        }

        Environment.SetEnvironmentVariable("LLMPIPELINE_CACHE", _cache.Path);
        var main = Path.Combine(await NpmPackage.InstallAsync("azurite", Version), "node_modules", "azurite", "dist", "src", "blob", "main.js");
        using (var listener = new TcpListener(IPAddress.Loopback, 0))
        {
            listener.Start();
            _port = ((IPEndPoint)listener.LocalEndpoint).Port;
        }

        // Azurite of this version refuses the API version of the current SDK, unless told not to look.
        _process = Start("node", [main, "--blobHost", "127.0.0.1", "--blobPort", $"{_port}", "--inMemoryPersistence", "--skipApiVersionCheck", "--silent", "--disableTelemetry"]);
        using var timeout = new CancellationTokenSource(StartTime);
        while (await _process.StandardOutput.ReadLineAsync(timeout.Token) is { } line)
        {
            if (line.Contains("successfully listens", StringComparison.Ordinal) || line.Contains("successfully listening", StringComparison.Ordinal))
            {
                _ = _process.StandardOutput.ReadToEndAsync(CancellationToken.None);
                _ = _process.StandardError.ReadToEndAsync(CancellationToken.None);
                return;
            }
        }

        Assert.Fail($"Azurite did not start: {await _process.StandardError.ReadToEndAsync(timeout.Token)}");
    }

    public ValueTask DisposeAsync()
    {
        _process?.Kill(entireProcessTree: true);
        _process?.Dispose();
        _cache.Dispose();
        return ValueTask.CompletedTask;
    }

    private static Process Start(string file, string[] arguments) => Process.Start(new ProcessStartInfo(file, arguments)
    {
        RedirectStandardOutput = true,
        RedirectStandardError = true,
        WorkingDirectory = Path.GetTempPath(),
    })!;
}
