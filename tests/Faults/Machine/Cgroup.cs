using System.Globalization;

namespace LlmPipeline.Faults.Machine;

/// <summary>A control group for one process: a limit of its memory, or of its share of a core. Version 1 or 2, whichever the machine has.</summary>
public sealed class Cgroup : IDisposable
{
    private const string Root = "/sys/fs/cgroup";

    private static int _count;

    private readonly string _folder;
    private readonly bool _unified;

    private Cgroup(string folder, bool unified) => (_folder, _unified) = (folder, unified);

    /// <summary>What stands before the command of a process that is to be in the group from its beginning.</summary>
    public IReadOnlyList<string> Launcher => ["sh", "-c", $"echo $$ > {_folder}/cgroup.procs && exec \"$@\"", "sh"];

    /// <summary>Makes a group; null, with the reason, where that is not allowed.</summary>
    /// <param name="controller">"memory" or "cpu".</param>
    /// <param name="reason">Why not.</param>
    public static Cgroup? TryCreate(string controller, out string reason)
    {
        reason = "";
        var name = string.Create(CultureInfo.InvariantCulture, $"llmpipeline-{Environment.ProcessId}-{Interlocked.Increment(ref _count)}");
        try
        {
            if (Directory.Exists($"{Root}/{controller}"))
            {
                return new Cgroup(Directory.CreateDirectory($"{Root}/{controller}/{name}").FullName, unified: false);
            }

            if (File.Exists($"{Root}/cgroup.controllers") && File.ReadAllText($"{Root}/cgroup.controllers").Split(' ', '\n').Contains(controller))
            {
                File.WriteAllText($"{Root}/cgroup.subtree_control", $"+{controller}");
                return new Cgroup(Directory.CreateDirectory($"{Root}/{name}").FullName, unified: true);
            }

            reason = $"this machine has no cgroup controller '{controller}'";
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            reason = $"cgroups cannot be made here ({exception.Message.TrimEnd('.')})";
        }

        return null;
    }

    /// <summary>Bytes that the group uses now.</summary>
    public long MemoryBytes => long.Parse(File.ReadAllText(Path.Combine(_folder, _unified ? "memory.current" : "memory.usage_in_bytes")), CultureInfo.InvariantCulture);

    /// <summary>Limits its memory; a process of it is killed when more is needed.</summary>
    public void LimitMemory(long bytes) => Write(_unified ? "memory.max" : "memory.limit_in_bytes", bytes.ToString(CultureInfo.InvariantCulture));

    /// <summary>Limits its processor time to a share of one core, or lifts the limit (null).</summary>
    public void LimitCpu(double? share)
    {
        var quota = share is { } cores ? ((int)(cores * 100_000)).ToString(CultureInfo.InvariantCulture) : null;
        if (_unified)
        {
            Write("cpu.max", $"{quota ?? "max"} 100000");
        }
        else
        {
            Write("cpu.cfs_quota_us", quota ?? "-1");
        }
    }

    /// <summary>Removes the group; its processes have ended.</summary>
    public void Dispose()
    {
        for (var i = 0; i < 50; i++)
        {
            try
            {
                Directory.Delete(_folder);
                return;
            }
            catch (IOException)
            {
                // A process is on its way out.
                Thread.Sleep(100);
            }
        }
    }

    private void Write(string file, string text) => File.WriteAllText(Path.Combine(_folder, file), text);
}
