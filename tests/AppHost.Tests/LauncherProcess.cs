using System.Diagnostics;
using System.Globalization;
using System.Net.Http.Json;
using System.Text.RegularExpressions;

namespace LlmPipeline.AppHost.Tests;

/// <summary>The fake AppHost as a process: store, back that waits for store, front that waits for back.</summary>
internal sealed partial class LauncherProcess : IAsyncDisposable
{
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(40);
    public static readonly string[] Services = ["store", "back", "front"];

    private readonly Process _process;
    private readonly List<string> _lines = [];
    private readonly SemaphoreSlim _changed = new(0);
    private readonly HttpClient _http = new() { Timeout = Patience };

    public LauncherProcess(IEnumerable<string> arguments, IEnumerable<KeyValuePair<string, string>>? environment = null)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "These tests send signals and read /proc.");
        var program = Path.Combine(AppContext.BaseDirectory, "LlmPipeline.FakeAppHost.dll");
        var start = new ProcessStartInfo("dotnet", ["exec", program, .. arguments])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment.Remove("OTEL_EXPORTER_OTLP_ENDPOINT");
        foreach (var (name, value) in environment ?? [])
        {
            start.Environment[name] = value;
        }

        _process = Process.Start(start)!;
        _process.OutputDataReceived += (_, line) => Add(line.Data);
        _process.ErrorDataReceived += (_, line) => Add(line.Data);
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
    }

    public int ExitCode => _process.ExitCode;

    /// <summary>Everything written so far, standard output and standard error.</summary>
    public IReadOnlyList<string> Lines
    {
        get
        {
            lock (_lines)
            {
                return [.. _lines];
            }
        }
    }

    /// <summary>Whether a process of this machine has not ended.</summary>
    public static bool IsRunning(int id)
    {
        try
        {
            using var process = Process.GetProcessById(id);
            return !process.HasExited && !IsZombie(id);
        }
        catch (ArgumentException)
        {
            return false;
        }
    }

    public static async Task<LauncherProcess> StartAsync(params string[] arguments)
    {
        var launcher = new LauncherProcess([.. arguments, "--verbose=true"]);
        await launcher.WaitForLineAsync("All services are ready");
        return launcher;
    }

    /// <summary>The first line that contains a text.</summary>
    public async Task<string> WaitForLineAsync(string text)
    {
        using var patience = new CancellationTokenSource(Patience);
        while (true)
        {
            if (Lines.FirstOrDefault(line => line.Contains(text, StringComparison.Ordinal)) is { } found)
            {
                return found;
            }

            try
            {
                await _changed.WaitAsync(patience.Token);
            }
            catch (OperationCanceledException)
            {
                throw new TimeoutException($"No line with '{text}' in:\n{string.Join('\n', Lines)}");
            }
        }
    }

    /// <summary>Waits until a text stood in so many lines.</summary>
    public async Task WaitForLinesAsync(string text, int count)
    {
        using var patience = new CancellationTokenSource(Patience);
        while (Lines.Count(line => line.Contains(text, StringComparison.Ordinal)) < count)
        {
            await _changed.WaitAsync(patience.Token);
        }
    }

    public int IndexOf(string text) => Lines.ToList().FindIndex(line => line.Contains(text, StringComparison.Ordinal));

    /// <summary>Where a service serves HTTP/1.1, from its log.</summary>
    public async Task<Uri> AddressOfAsync(string service)
    {
        var line = await WaitForLineAsync($"{service,-5} | info: Microsoft.Hosting.Lifetime[14] Now listening on: http://localhost:");
        return new Uri(Url().Match(line).Value);
    }

    public async Task<int> IdOfAsync(string service) =>
        int.Parse(await _http.GetStringAsync(new Uri(await AddressOfAsync(service), "/pid")), CultureInfo.InvariantCulture);

    public async Task<Dictionary<string, string>> EnvironmentOfAsync(string service) =>
        (await _http.GetFromJsonAsync<Dictionary<string, string>>(new Uri(await AddressOfAsync(service), "/environment")))!;

    public async Task CrashAsync(string service)
    {
        try
        {
            using var response = await _http.PostAsync(new Uri(await AddressOfAsync(service), "/crash"), null);
        }
        catch (HttpRequestException)
        {
            // It does not live to answer.
        }
    }

    /// <summary>Sends a signal to the launcher alone.</summary>
    public void Signal(string signal)
    {
        using var kill = Process.Start("sh", ["-c", $"kill -{signal} {_process.Id}"]);
        kill.WaitForExit();
    }

    /// <summary>Waits for the launcher's end, and its output's; returns how long that took.</summary>
    public async Task<TimeSpan> WaitForExitAsync()
    {
        var clock = Stopwatch.StartNew();
        await _process.WaitForExitAsync().WaitAsync(Patience);
        return clock.Elapsed;
    }

    public async ValueTask DisposeAsync()
    {
        if (!_process.HasExited)
        {
            // The second signal kills what would need time to stop.
            Signal("TERM");
            Signal("INT");
            await WaitForExitAsync();
        }

        _process.Dispose();
        _http.Dispose();
        _changed.Dispose();
    }

    // Ended, but not yet collected by its new parent.
    private static bool IsZombie(int id)
    {
        try
        {
            var stat = File.ReadAllText($"/proc/{id}/stat");
            return stat[stat.LastIndexOf(')') + 2] == 'Z';
        }
        catch (IOException)
        {
            return true;
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

        _changed.Release();
    }

    [GeneratedRegex("http://localhost:[0-9]+")]
    private static partial Regex Url();
}
