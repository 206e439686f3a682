using System.Diagnostics;
using System.Globalization;

namespace LlmPipeline.AppHost.Launcher;

/// <summary>
/// Ends programs that know nothing of the launcher when it is killed and can end nobody itself: a shell that reads process ids
/// until its input ends. (Services watch LLMPIPELINE_PARENT_PID themselves. Nothing on Windows, which has no such shell.)
/// </summary>
internal sealed class Guardian : IDisposable
{
    // The last line wins. The signals of a terminal reach this shell too, and are not for it.
    private const string Script =
        "trap '' INT TERM HUP; while read -r line; do ids=$line; done; "
        + "[ -n \"$ids\" ] && { kill -TERM $ids; sleep 3; kill -KILL $ids; } 2>/dev/null; :";

    private readonly Lock _lock = new();
    private readonly HashSet<int> _ids = [];
    private Process? _shell;

    /// <summary>Guards a process until it ends.</summary>
    public void Guard(Process process)
    {
        if (OperatingSystem.IsWindows())
        {
            return;
        }

        var id = process.Id;
        lock (_lock)
        {
            _shell ??= Process.Start(new ProcessStartInfo("sh", ["-c", Script]) { RedirectStandardInput = true })!;
            _ids.Add(id);
            WriteIds();
        }

        process.Exited += (_, _) => Release(id);
        process.EnableRaisingEvents = true;
    }

    public void Dispose()
    {
        lock (_lock)
        {
            if (_shell is not null)
            {
                _ids.Clear();
                WriteIds();
                _shell.StandardInput.Close();
                _shell.WaitForExit();
                _shell.Dispose();
                _shell = null;
            }
        }
    }

    private void Release(int id)
    {
        lock (_lock)
        {
            _ids.Remove(id);
            if (_shell is not null)
            {
                WriteIds();
            }
        }
    }

    private void WriteIds()
    {
        _shell!.StandardInput.WriteLine(string.Join(' ', _ids.Select(id => id.ToString(CultureInfo.InvariantCulture))));
        _shell.StandardInput.Flush();
    }
}
