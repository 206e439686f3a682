using System.Diagnostics;
using System.Net;

namespace LlmPipeline.AppHost.Launcher;

/// <summary>A resource's life: wait for others, start, become ready, and start again after a crash.</summary>
internal sealed class SupervisedService(
    ProcessResource resource, LauncherSettings settings, Terminal terminal, HttpClient health, Guardian guardian, Func<string?> otlpEndpoint)
    : IDisposable
{
    private static readonly TimeSpan HealthInterval = TimeSpan.FromMilliseconds(200);
    private static readonly TimeSpan StableAfter = TimeSpan.FromSeconds(60);

    // Ctrl-C reaches the services as well as the launcher, in any order: an end is a crash only if no stop follows it.
    private static readonly TimeSpan StopMayFollow = TimeSpan.FromMilliseconds(500);

    private readonly TaskCompletionSource _ready = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private ServiceProcess? _process;

    public ProcessResource Resource => resource;

    /// <summary>Completes when the process runs, and is healthy if it can tell.</summary>
    public Task Ready => _ready.Task;

    /// <summary>Runs the resource until <paramref name="stop"/>, which leaves its last process for <see cref="StopAsync"/>.</summary>
    /// <param name="dependencies">Starts nothing before these are ready.</param>
    /// <param name="stop">Ends the supervision.</param>
    /// <returns>The exit code of a task; 0 for a service, or 1 if it never became ready.</returns>
    public async Task<int> RunAsync(IEnumerable<SupervisedService> dependencies, CancellationToken stop)
    {
        try
        {
            await Task.WhenAll(dependencies.Select(dependency => dependency.Ready)).WaitAsync(stop);
            return await SuperviseAsync(stop);
        }
        catch (OperationCanceledException)
        {
            return 0;
        }
        catch (LauncherException e)
        {
            terminal.WriteError($"{resource.Name} cannot start. {e.Message}");
            return 1;
        }
    }

    public async Task StopAsync(TimeSpan grace, CancellationToken kill)
    {
        if (_process is not null)
        {
            await _process.StopAsync(grace, kill);
        }
    }

    public void Dispose() => _process?.Dispose();

    private async Task<int> SuperviseAsync(CancellationToken stop)
    {
        for (var restarts = 0; ; restarts++)
        {
            var age = Stopwatch.StartNew();
            _process?.Dispose();
            var process = _process = Start();
            using var life = CancellationTokenSource.CreateLinkedTokenSource(stop);
            var healthy = AwaitHealthAsync(life.Token);
            var code = await process.WaitForExitAsync(stop);
            await life.CancelAsync();
            await healthy.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            await Task.Delay(StopMayFollow, stop);
            if (resource.IsTask)
            {
                return code;
            }

            restarts = age.Elapsed > StableAfter ? 0 : restarts;
            ReportCrash(process, code);
            if (restarts == settings.MaxRestarts)
            {
                terminal.WriteError($"{resource.Name} ended {restarts + 1} times in a row and is not started again.");
                return Ready.IsCompleted ? 0 : 1;
            }

            await Task.Delay(settings.RestartDelay * Math.Pow(2, restarts), stop);
            terminal.WriteError($"Starting {resource.Name} again.");
        }
    }

    private ServiceProcess Start() => ServiceProcess.Start(
        [.. resource.Command, .. resource.Arguments],
        resource.WorkingDirectory,
        ServiceEnvironment.Of(resource, settings, otlpEndpoint(), terminal.IsColoured),
        resource.IsTask ? null : line => terminal.Write(resource.Name, settings.ShowsAllLogs ? line : WithoutStackTrace(line)),
        resource is ProjectResource && !resource.IsTask ? null : guardian);

    // Beside a quick start's output the message has to do.
    private static string WithoutStackTrace(string line) =>
        line.IndexOf("    at ", StringComparison.Ordinal) is > 0 and var start ? line[..start] : line;

    private async Task AwaitHealthAsync(CancellationToken stop)
    {
        if (resource.HealthCheck is var (endpointName, path) && !Ready.IsCompleted)
        {
            var address = new Uri(resource.Endpoints.First(endpoint => endpoint.Name == endpointName).Url + path);
            while (!await IsHealthyAsync(address, stop))
            {
                await Task.Delay(HealthInterval, stop);
            }
        }

        _ready.TrySetResult();
    }

    private async Task<bool> IsHealthyAsync(Uri address, CancellationToken stop)
    {
        try
        {
            using var response = await health.GetAsync(address, stop);
            return response.StatusCode == HttpStatusCode.OK;
        }
        catch (Exception e) when (e is HttpRequestException || (e is OperationCanceledException && !stop.IsCancellationRequested))
        {
            return false;
        }
    }

    private void ReportCrash(ServiceProcess process, int code)
    {
        var hint = process.LastLines.Count > 0 ? "Its last lines:" : "It wrote nothing.";
        terminal.WriteError($"{resource.Name} ended unexpectedly, with exit code {code}. {hint}");
        foreach (var line in process.LastLines)
        {
            terminal.WriteError($"    {line}");
        }
    }
}
