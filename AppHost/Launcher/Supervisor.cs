using System.Diagnostics;
using System.Globalization;

namespace LlmPipeline.AppHost.Launcher;

/// <summary>Starts all resources, each when those it waits for are ready, and stops them in the opposite order.</summary>
internal sealed class Supervisor : IDisposable
{
    // All of stopping, with the dashboard's second and the killing of processes that do not listen, stays below 10 s.
    private static readonly TimeSpan StopLimit = TimeSpan.FromSeconds(7);
    private static readonly TimeSpan LeastGrace = TimeSpan.FromSeconds(1);

    private readonly List<SupervisedService> _services;
    private readonly LauncherSettings _settings;
    private readonly StopSignals _signals;
    private readonly Terminal _terminal;
    private readonly HttpClient _health = new() { Timeout = TimeSpan.FromSeconds(2) };
    private readonly Guardian _guardian = new();
    private readonly Stopwatch _clock = Stopwatch.StartNew();
    private Dashboard? _dashboard;
    private int _exitCode;

    public Supervisor(IReadOnlyList<ProcessResource> resources, LauncherSettings settings, StopSignals signals)
    {
        _settings = settings;
        _signals = signals;
        _terminal = new Terminal(resources.Select(resource => resource.Name.Length).DefaultIfEmpty().Max());
        _services = [.. resources.Select(resource => new SupervisedService(
            resource, settings, _terminal, _health, _guardian, () => settings.OtlpEndpoint ?? _dashboard?.OtlpEndpoint))];
    }

    /// <summary>Runs until the signals say stop, or a task fails; returns the exit code of the whole.</summary>
    public async Task<int> RunAsync()
    {
        try
        {
            PortAllocator.Allocate(_services.Select(service => service.Resource));
            _dashboard = _settings.OtlpEndpoint is null && _settings.AllowsDashboard ? Dashboard.Start(_terminal, _guardian) : null;
        }
        catch (LauncherException e)
        {
            _terminal.WriteError(e.Message);
            return 1;
        }

        WriteAddresses();
        await Task.WhenAll([ReportReadyAsync(), .. _services.Select(RunAsync)]);
        await Task.Delay(Timeout.Infinite, _signals.Stop).ContinueWith(_ => { }, TaskScheduler.Default);
        _terminal.Write("Stopping.");
        _terminal.HidesServices = !_settings.ShowsAllLogs;
        await StopAsync();
        return _exitCode;
    }

    public void Dispose()
    {
        _services.ForEach(service => service.Dispose());
        _dashboard?.Dispose();
        _health.Dispose();
        _guardian.Dispose();
    }

    private async Task RunAsync(SupervisedService service)
    {
        var code = await service.RunAsync(
            _services.Where(other => service.Resource.WaitsFor.Contains(other.Resource)), _signals.Stop);
        if (code != 0)
        {
            _terminal.WriteError($"{service.Resource.Name} failed with exit code {code}; everything is stopped.");
            _exitCode = code;
            _signals.RequestStop();
        }
    }

    private void WriteAddresses()
    {
        foreach (var service in _services)
        {
            foreach (var endpoint in service.Resource.Endpoints.Where(endpoint => endpoint.IsExternal))
            {
                _terminal.Write($"  {service.Resource.Name} {endpoint.Name,-5} {endpoint.Url}");
            }
        }

        var telemetry = _settings.OtlpEndpoint is { } otlp ? $"goes to {otlp}"
            : _dashboard is not null ? $"is shown at {_dashboard.Url} (Aspire dashboard)"
            : "is not collected: install the Aspire CLI (https://aspire.dev), or set OTEL_EXPORTER_OTLP_ENDPOINT";
        _terminal.Write($"  telemetry {telemetry}");
    }

    private async Task ReportReadyAsync()
    {
        try
        {
            await Task.WhenAll(_services.Where(service => !service.Resource.IsTask).Select(service => service.Ready)).WaitAsync(_signals.Stop);
            _terminal.Write(string.Create(
                CultureInfo.InvariantCulture, $"All services are ready after {_clock.Elapsed.TotalSeconds:F1} s. Press Ctrl-C to stop them."));
        }
        catch (OperationCanceledException)
        {
            // Stopped before that.
        }
    }

    private async Task StopAsync()
    {
        // A wave may take what the later ones do not need.
        var clock = Stopwatch.StartNew();
        var waves = _services.GroupBy(service => Depth(service.Resource)).OrderByDescending(wave => wave.Key).ToList();
        for (var i = 0; i < waves.Count; i++)
        {
            var grace = StopLimit - clock.Elapsed - (LeastGrace * (waves.Count - 1 - i));
            grace = grace > LeastGrace ? grace : LeastGrace;
            await Task.WhenAll(waves[i].Select(service => service.StopAsync(grace, _signals.Kill)));
        }

        if (_dashboard is not null)
        {
            await _dashboard.StopAsync(_signals.Kill);
        }
    }

    private static int Depth(ProcessResource resource) =>
        resource.WaitsFor.Count == 0 ? 0 : 1 + resource.WaitsFor.Max(Depth);
}
