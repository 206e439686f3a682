using System.Diagnostics;
using System.Globalization;
using Grpc.Net.Client;
using LlmPipeline.Fakes;

namespace LlmPipeline.EndToEnd.Tests.Tracing;

/// <summary>The built AppHost as a process, on its built-in launcher, with its own ports and its own storage.</summary>
internal sealed class AppHostProcess : IAsyncDisposable
{
    private static readonly TimeSpan StartLimit = TimeSpan.FromMinutes(3);
    private static readonly TimeSpan StopLimit = TimeSpan.FromSeconds(30);

    private readonly Process _process;
    private readonly DirectoryInfo _storage;
    private readonly TaskCompletionSource _ready = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly List<string> _lines = [];

    private AppHostProcess(Process process, DirectoryInfo storage, int grpcPort, int httpPort)
    {
        _process = process;
        _storage = storage;
        Channel = GrpcChannel.ForAddress(string.Create(CultureInfo.InvariantCulture, $"http://localhost:{grpcPort}"));
        Rest = new HttpClient { BaseAddress = new Uri(string.Create(CultureInfo.InvariantCulture, $"http://localhost:{httpPort}")) };
        process.OutputDataReceived += (_, line) => Add(line.Data);
        process.ErrorDataReceived += (_, line) => Add(line.Data);
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
    }

    /// <summary>The Gateway's gRPC endpoint.</summary>
    public GrpcChannel Channel { get; }

    /// <summary>The Gateway's REST endpoint.</summary>
    public HttpClient Rest { get; }

    /// <summary>What the AppHost wrote.</summary>
    public string Output
    {
        get
        {
            lock (_lines)
            {
                return string.Join('\n', _lines);
            }
        }
    }

    /// <summary>Starts the AppHost and waits until all its services are ready; skips the test where it was built for Aspire.</summary>
    public static async Task<AppHostProcess> StartAsync(IEnumerable<string> arguments, IReadOnlyDictionary<string, string> environment)
    {
        // tests/EndToEnd.Tests/bin/Debug/net10.0 -> AppHost/bin/Debug/net10.0
        var output = AppContext.BaseDirectory.TrimEnd(Path.DirectorySeparatorChar);
        var folder = output.Replace(Path.Combine("tests", "EndToEnd.Tests"), "AppHost", StringComparison.Ordinal);
        Assert.SkipWhen(File.Exists(Path.Combine(folder, "Aspire.Hosting.dll")), "The AppHost was built for Aspire; build with UseAspire=false.");

        var (http, grpc) = (FreePort.Next(), FreePort.Next());
        var storage = Directory.CreateTempSubdirectory("llmpipeline-e2e-");
        var start = new ProcessStartInfo("dotnet", ["exec", Path.Combine(folder, "LlmPipeline.AppHost.dll"), "--verbose",
            $"--http-port={http}", $"--grpc-port={grpc}", $"--ConnectionStrings:storage=folder={storage.FullName}", .. arguments])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach (var (name, value) in environment)
        {
            start.Environment[name] = value;
        }

        var appHost = new AppHostProcess(Process.Start(start)!, storage, grpc, http);
        try
        {
            await appHost._ready.Task.WaitAsync(StartLimit);
            return appHost;
        }
        catch (TimeoutException)
        {
            await appHost.DisposeAsync();
            throw new TimeoutException($"The services were not ready within {StartLimit}:\n{appHost.Output}");
        }
    }

    public async ValueTask DisposeAsync()
    {
        Channel.Dispose();
        Rest.Dispose();
        using (var kill = Process.Start("sh", ["-c", $"kill -INT {_process.Id}"]))
        {
            await kill.WaitForExitAsync();
        }

        try
        {
            await _process.WaitForExitAsync().WaitAsync(StopLimit);
        }
        finally
        {
            _process.Kill(entireProcessTree: true);
            _process.Dispose();
            _storage.Delete(recursive: true);
        }
    }

    private void Add(string? line)
    {
        if (line is null)
        {
            return;
        }

        lock (_lines)
        {
            _lines.Add(line);
        }

        if (line.StartsWith("All services are ready", StringComparison.Ordinal))
        {
            _ready.TrySetResult();
        }
    }
}
