using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;

namespace LlmPipeline.EndToEnd.Tests;

/// <summary>One of the services, as a process of its own on a port of its own. It can be killed and started again.</summary>
internal sealed class ServiceProcess(string name, string project, IReadOnlyDictionary<string, string> environment) : IDisposable
{
    private const int MaxOutputLines = 400;

    private readonly Lock _lock = new();
    private readonly Queue<string> _output = new();
    private Process? _process;

    /// <summary>Name in messages and telemetry.</summary>
    public string Name => name;

    /// <summary>Port of its gRPC endpoint, the same after a restart.</summary>
    public int Port { get; } = FreePort();

    /// <summary>Its gRPC endpoint.</summary>
    public string Address => $"http://localhost:{Port}";

    /// <summary>Its HTTP/1 endpoint, the same after a restart.</summary>
    public string HttpAddress { get; } = $"http://localhost:{FreePort()}";

    /// <summary>Whether the process is there.</summary>
    public bool IsRunning => _process is { HasExited: false };

    /// <summary>The newest lines that it wrote.</summary>
    public string Output
    {
        get
        {
            lock (_lock)
            {
                return string.Join('\n', _output.Select(line => $"[{name}] {line}"));
            }
        }
    }

    /// <summary>Starts the process, and does not wait until it answers.</summary>
    public void Start()
    {
        var start = new ProcessStartInfo(Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") ?? "dotnet")
        {
            ArgumentList = { "exec", Assembly() },
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            UseShellExecute = false,
            WorkingDirectory = Path.GetDirectoryName(Assembly())!,
        };
        foreach (var (key, value) in environment)
        {
            start.Environment[key] = value;
        }

        start.Environment["ASPNETCORE_URLS"] = HttpAddress;
        start.Environment["GRPC_PORT"] = Port.ToString(CultureInfo.InvariantCulture);
        start.Environment["OTEL_SERVICE_NAME"] = name;
        start.Environment["Logging__Console__FormatterName"] = "simple";
        start.Environment["Logging__Console__FormatterOptions__SingleLine"] = "true";
        start.Environment["Logging__Console__FormatterOptions__TimestampFormat"] = "HH:mm:ss.fff ";
        // Whatever becomes of the tests, no service outlives them.
        start.Environment["LLMPIPELINE_PARENT_PID"] = Environment.ProcessId.ToString(CultureInfo.InvariantCulture);
        Keep("-- started --");
        _process = Process.Start(start)!;
        _process.OutputDataReceived += (_, line) => Keep(line.Data);
        _process.ErrorDataReceived += (_, line) => Keep(line.Data);
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
    }

    /// <summary>Ends the process as the kernel does it (SIGKILL), and waits until it is gone.</summary>
    public void Kill()
    {
        if (_process is null)
        {
            return;
        }

        _process.Kill(entireProcessTree: true);
        _process.WaitForExit(TimeSpan.FromSeconds(10));
        Keep("-- killed --");
    }

    /// <summary>Stops the process (SIGSTOP) without ending it, or lets it go on (SIGCONT).</summary>
    public void Signal(string signal)
    {
        using var kill = Process.Start("kill", [$"-{signal}", _process!.Id.ToString(CultureInfo.InvariantCulture)]);
        kill.WaitForExit();
        Keep($"-- {signal} --");
    }

    public void Dispose()
    {
        Kill();
        _process?.Dispose();
    }

    /// <summary>A port that nobody listens on just now.</summary>
    private static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    private string Assembly()
    {
        // tests/EndToEnd.Tests/bin/Debug/net10.0/ -> Trainer/bin/Debug/net10.0/
        var framework = new DirectoryInfo(Path.TrimEndingDirectorySeparator(AppContext.BaseDirectory));
        var root = framework.Parent!.Parent!.Parent!.Parent!.Parent!.FullName;
        var assembly = Path.Combine(root, project, "bin", framework.Parent.Name, framework.Name, $"LlmPipeline.{project}.dll");
        return File.Exists(assembly) ? assembly : throw new FileNotFoundException($"{assembly} is not built; build the solution.");
    }

    private void Keep(string? line)
    {
        if (line is null)
        {
            return;
        }

        lock (_lock)
        {
            _output.Enqueue(line);
            if (_output.Count > MaxOutputLines)
            {
                _output.Dequeue();
            }
        }
    }
}
