using System.Diagnostics;

namespace LlmPipeline.AppHost.Launcher;

/// <summary>One started process of a resource.</summary>
internal sealed class ServiceProcess : IDisposable
{
    private const int KeptLines = 20;

    private readonly Process _process;
    private readonly Queue<string> _lastLines = new();

    private ServiceProcess(Process process) => _process = process;

    /// <summary>What the process wrote last; empty where its console is the launcher's.</summary>
    public IReadOnlyList<string> LastLines
    {
        get
        {
            lock (_lastLines)
            {
                return [.. _lastLines];
            }
        }
    }

    /// <summary>Starts a process.</summary>
    /// <param name="command">The program and its arguments.</param>
    /// <param name="workingDirectory">The process's working directory.</param>
    /// <param name="environment">Variables over those of this process; a null value removes one.</param>
    /// <param name="onLine">Gets the lines it writes; null gives it this process's console.</param>
    /// <param name="guardian">Ends the process when this one is killed; null for a program that watches for that itself.</param>
    /// <exception cref="LauncherException">The program cannot be started.</exception>
    public static ServiceProcess Start(
        IReadOnlyList<string> command,
        string workingDirectory,
        IEnumerable<KeyValuePair<string, string?>> environment,
        Action<string>? onLine,
        Guardian? guardian)
    {
        var start = new ProcessStartInfo(command[0], command.Skip(1))
        {
            WorkingDirectory = workingDirectory,
            RedirectStandardInput = onLine is not null,
            RedirectStandardOutput = onLine is not null,
            RedirectStandardError = onLine is not null,
        };
        foreach (var (name, value) in environment)
        {
            start.Environment[name] = value;
        }

        try
        {
            var service = new ServiceProcess(Process.Start(start)!);
            guardian?.Guard(service._process);
            if (onLine is not null)
            {
                service.ReadLines(onLine);
            }

            return service;
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            throw new LauncherException($"'{command[0]}' cannot be started: {e.Message}. Is it installed and on the PATH?");
        }
    }

    /// <summary>The exit code, once the process has ended.</summary>
    public async Task<int> WaitForExitAsync(CancellationToken cancellationToken = default)
    {
        await _process.WaitForExitAsync(cancellationToken);
        return _process.ExitCode;
    }

    /// <summary>Asks the process to end, and ends it and all that it started if it has not after the grace period.</summary>
    public async Task StopAsync(TimeSpan grace, CancellationToken kill)
    {
        if (_process.HasExited)
        {
            return;
        }

        var descendants = ProcessTree.Terminate(_process);
        using var patience = CancellationTokenSource.CreateLinkedTokenSource(kill);
        patience.CancelAfter(grace);
        try
        {
            // Not WaitForExitAsync: that waits for the output's end too, which a descendant may hold open.
            await ExitOf(_process).WaitAsync(patience.Token);
        }
        catch (OperationCanceledException)
        {
            ProcessTree.Kill(_process);
        }

        ProcessTree.KillOrphans(descendants);
    }

    public void Dispose() => _process.Dispose();

    private static Task ExitOf(Process process)
    {
        var exited = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        process.Exited += (_, _) => exited.TrySetResult();
        process.EnableRaisingEvents = true;
        if (process.HasExited)
        {
            exited.TrySetResult();
        }

        return exited.Task;
    }

    private void ReadLines(Action<string> onLine)
    {
        _process.StandardInput.Close();
        _process.OutputDataReceived += (_, line) => Keep(line.Data);
        _process.ErrorDataReceived += (_, line) => Keep(line.Data);
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();

        void Keep(string? line)
        {
            if (line is null)
            {
                return;
            }

            lock (_lastLines)
            {
                _lastLines.Enqueue(line);
                if (_lastLines.Count > KeptLines)
                {
                    _lastLines.Dequeue();
                }
            }

            onLine(line);
        }
    }
}
