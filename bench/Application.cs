using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;

namespace LlmPipeline.Bench;

/// <summary>The whole product as a user starts it, <c>dotnet run --project AppHost</c>, in a folder of its own.</summary>
internal sealed partial class Application : IAsyncDisposable
{
    private readonly Process _process;
    private readonly ConcurrentQueue<string> _lines = new();
    private readonly Stopwatch _sinceStart = Stopwatch.StartNew();

    private Application(Process process) => _process = process;

    /// <summary>Starts the AppHost of a clone.</summary>
    /// <param name="root">The clone.</param>
    /// <param name="arguments">Arguments of the AppHost.</param>
    /// <param name="storage">Folder of its storage; null: the default.</param>
    /// <param name="seen">Called with every line of output, and the time since the start.</param>
    public static Application Start(string root, IReadOnlyList<string> arguments, string? storage, Action<string, TimeSpan>? seen = null)
    {
        var start = new ProcessStartInfo("dotnet", ["run", "--project", "AppHost", "--", .. arguments])
        {
            WorkingDirectory = root,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            RedirectStandardInput = true,
        };
        start.Environment["UseAspire"] = "false";
        if (storage is not null)
        {
            start.Environment["ConnectionStrings__storage"] = $"folder={storage}";
        }

        var application = new Application(Process.Start(start) ?? throw new InvalidOperationException("dotnet did not start."));
        foreach (var reader in new[] { application._process.StandardOutput, application._process.StandardError })
        {
            _ = Task.Run(async () =>
            {
                while (await reader.ReadLineAsync() is { } line)
                {
                    application._lines.Enqueue(line);
                    seen?.Invoke(line, application._sinceStart.Elapsed);
                }
            });
        }

        return application;
    }

    /// <summary>It has ended, by itself or stopped.</summary>
    public bool HasExited => _process.HasExited;

    /// <summary>All output so far.</summary>
    public IReadOnlyList<string> Lines => [.. _lines];

    /// <summary>Waits for a line that satisfies a condition and returns the time from the start to it.</summary>
    public async Task<TimeSpan> WaitForLineAsync(Func<string, bool> condition, TimeSpan limit)
    {
        while (_sinceStart.Elapsed < limit)
        {
            if (_lines.Any(condition))
            {
                return _sinceStart.Elapsed;
            }

            if (_process.HasExited)
            {
                break;
            }

            await Task.Delay(100);
        }

        throw new InvalidOperationException($"The application did not get there. Its last lines:\n{string.Join('\n', _lines.TakeLast(30))}");
    }

    /// <summary>Ctrl-C; returns how long it took until the process and all that it started were gone.</summary>
    public async Task<TimeSpan> StopAsync()
    {
        var family = Descendants(_process.Id);
        var clock = Stopwatch.StartNew();
        if (Kill(_process.Id, 2) != 0)
        {
            throw new InvalidOperationException("The application has ended by itself.");
        }

        foreach (var descendant in family.Where(id => NameOf(id) is not null))
        {
            _ = Kill(descendant, 2);
        }

        while (clock.Elapsed < TimeSpan.FromSeconds(30) && family.Append(_process.Id).Any(id => NameOf(id) is not null))
        {
            await Task.Delay(50);
        }

        return clock.Elapsed;
    }

    public ValueTask DisposeAsync()
    {
        if (!_process.HasExited)
        {
            _process.Kill(entireProcessTree: true);
        }

        _process.Dispose();
        return ValueTask.CompletedTask;
    }

    // A terminal sends Ctrl-C to the whole foreground group, so the bench sends it to the whole family.
    private static List<int> Descendants(int root)
    {
        var parents = Directory.EnumerateDirectories("/proc").Select(Path.GetFileName)
            .Where(name => int.TryParse(name, out _))
            .Select(name => (Id: int.Parse(name!, CultureInfo.InvariantCulture), Parent: ParentOf(name!)))
            .ToList();
        var found = new List<int>();
        var open = new Queue<int>([root]);
        while (open.TryDequeue(out var parent))
        {
            foreach (var child in parents.Where(p => p.Parent == parent))
            {
                found.Add(child.Id);
                open.Enqueue(child.Id);
            }
        }

        return found;
    }

    private static int ParentOf(string id)
    {
        try
        {
            var stat = File.ReadAllText($"/proc/{id}/stat");
            return int.Parse(stat[(stat.LastIndexOf(')') + 2)..].Split(' ')[1], CultureInfo.InvariantCulture);
        }
        catch (IOException)
        {
            return -1;
        }
    }

    private static string? NameOf(int id)
    {
        try
        {
            return File.ReadAllText($"/proc/{id}/stat") is var stat && stat[(stat.LastIndexOf(')') + 2)..][0] != 'Z' ? stat : null;
        }
        catch (IOException)
        {
            return null;
        }
    }

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int Kill(int process, int signal);
}
