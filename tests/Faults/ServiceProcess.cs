using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using LlmPipeline.Fakes;

namespace LlmPipeline.Faults;

/// <summary>One of the services, as a process of its own on a port of its own. It can be killed and started again.</summary>
public sealed partial class ServiceProcess(string name, string project, IReadOnlyDictionary<string, string> environment) : IDisposable
{
    private const int MaxOutputLines = 400;

    private readonly Lock _lock = new();
    private readonly Queue<string> _output = new();
    private readonly int _httpPort = FreePort.Next();
    private Process? _process;

    /// <summary>Name in messages and telemetry.</summary>
    public string Name => name;

    /// <summary>Port of its gRPC endpoint, the same after a restart.</summary>
    public int Port { get; } = FreePort.Next();

    /// <summary>Where it listens.</summary>
    public string Host { get; init; } = "localhost";

    /// <summary>Its gRPC endpoint.</summary>
    public string Address => $"{(environment.ContainsKey("Tls__Certificate") ? "https" : "http")}://{Host}:{Port}";

    /// <summary>Its HTTP/1 endpoint, the same after a restart.</summary>
    public string HttpAddress => $"http://{Host}:{_httpPort}";

    /// <summary>Whether the process is there.</summary>
    public bool IsRunning => _process is { HasExited: false };

    /// <summary>Id of the process that was started last.</summary>
    public int Id => _process?.Id ?? throw new InvalidOperationException($"{name} was not started.");

    /// <summary>Exit code of the process that was started last; 137 after SIGKILL. Null while it runs.</summary>
    public int? ExitCode => _process is { HasExited: true } process ? process.ExitCode : null;

    /// <summary>What stands before the command: a program that puts its own process into a place of its own and then becomes the service.</summary>
    public IReadOnlyList<string> Launcher { get; init; } = [];

    /// <summary>Resident memory in bytes; 0 when the process is gone.</summary>
    public long ResidentBytes => FromProc("status", text => text.Split('\n').FirstOrDefault(l => l.StartsWith("VmRSS:", StringComparison.Ordinal)) is { } line
        ? long.Parse(line.AsSpan(6).Trim().TrimEnd(" kB"), CultureInfo.InvariantCulture) * 1024
        : 0);

    /// <summary>User and system time so far; zero when the process is gone.</summary>
    public TimeSpan CpuTime => FromProc("stat", text =>
    {
        var fields = text[(text.LastIndexOf(')') + 2)..].Split(' ');
        return TimeSpan.FromSeconds((long.Parse(fields[11], CultureInfo.InvariantCulture) + long.Parse(fields[12], CultureInfo.InvariantCulture)) / 100.0);
    });

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
        string[] command = [.. Launcher, Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") ?? "dotnet", "exec", AssemblyOf(project)];
        var start = new ProcessStartInfo(command[0], command[1..])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            UseShellExecute = false,
            WorkingDirectory = Path.GetDirectoryName(AssemblyOf(project))!,
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
        _process?.Dispose();
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

    /// <summary>Sends a signal: STOP freezes the process, CONT lets it go on, TERM asks it to end, KILL ends it.</summary>
    public void Signal(string signal)
    {
        var number = signal switch
        {
            "STOP" => 19,
            "CONT" => 18,
            "TERM" => 15,
            "KILL" => 9,
            _ => throw new ArgumentException($"'{signal}' is not one of STOP, CONT, TERM, KILL.", nameof(signal)),
        };
        if (SendSignal(Id, number) != 0)
        {
            throw new InvalidOperationException($"{name} (process {Id}) did not take SIG{signal}: error {Marshal.GetLastPInvokeError()}.");
        }

        Keep($"-- {signal} --");
    }

    /// <summary>Waits until the process is gone; false when it is not within the time.</summary>
    public async Task<bool> WaitForExitAsync(TimeSpan limit)
    {
        try
        {
            await _process!.WaitForExitAsync().WaitAsync(limit);
            return true;
        }
        catch (TimeoutException)
        {
            return false;
        }
    }

    public void Dispose()
    {
        Kill();
        _process?.Dispose();
    }

    /// <summary>A program of the solution, as it was built with the one that runs here.</summary>
    /// <exception cref="FileNotFoundException">It is not built.</exception>
    public static string AssemblyOf(string project)
    {
        var framework = new DirectoryInfo(Path.TrimEndingDirectorySeparator(AppContext.BaseDirectory));
        var root = framework.Parent;
        while (root is not null && !File.Exists(Path.Combine(root.FullName, "LlmPipeline.sln")))
        {
            root = root.Parent;
        }

        var assembly = Path.Combine(root?.FullName ?? "", project, "bin", framework.Parent!.Name, framework.Name, $"LlmPipeline.{project}.dll");
        return File.Exists(assembly) ? assembly : throw new FileNotFoundException($"{assembly} is not built; build the solution.");
    }

    private T? FromProc<T>(string file, Func<string, T> read)
    {
        try
        {
            return _process is { HasExited: false } process ? read(File.ReadAllText($"/proc/{process.Id}/{file}")) : default;
        }
        catch (IOException)
        {
            return default;
        }
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

    [LibraryImport("libc", EntryPoint = "kill", SetLastError = true)]
    private static partial int SendSignal(int process, int signal);
}
