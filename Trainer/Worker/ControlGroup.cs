using System.Globalization;
using LlmPipeline.Workers.V1;

namespace LlmPipeline.Trainer.Worker;

/// <summary>The Linux control group (container) that this process runs in, version 1 or 2, as far as it is about memory.</summary>
internal static class ControlGroup
{
    /// <summary>What version 1 says for "no limit" is the largest number of whole pages.</summary>
    private const long NoLimit = 1L << 60;

    private static readonly (string Used, string Limit)? Files =
        Find("/", "memory.max", "memory.limit_in_bytes") is { } limit
            ? (Path.Combine(Path.GetDirectoryName(limit)!, Path.GetFileName(limit) == "memory.max" ? "memory.current" : "memory.usage_in_bytes"), limit)
            : null;

    /// <summary>What is in use and allowed now; null where nothing is limited, or on another system.</summary>
    public static MemoryUse? Memory() => Files is var (used, limit) && Number(limit) is { } most and < NoLimit && Number(used) is { } now
        ? new MemoryUse { UsedBytes = now, LimitBytes = most }
        : null;

    /// <summary>Processes that the kernel has killed in it for want of memory so far; null when that is not known.</summary>
    public static long? MemoryKills(string root = "/")
    {
        try
        {
            return Find(root, "memory.events", "memory.oom_control") is { } found
                && File.ReadLines(found).Select(l => l.Split(' ')).FirstOrDefault(words => words is ["oom_kill", _]) is [_, var count]
                && long.TryParse(count, NumberStyles.None, CultureInfo.InvariantCulture, out var kills) ? kills : null;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    /// <summary>A file of the group, by its name in version 2 and in version 1; null where there is none: not Linux, or hidden.</summary>
    private static string? Find(string root, string version2, string version1)
    {
        try
        {
            // "0::/path" is version 2, "5:memory:/path" version 1. In a container the mount shows the own group as its root.
            foreach (var line in File.ReadLines(Path.Combine(root, "proc/self/cgroup")))
            {
                if (line.Split(':', 3) is not [_, var controllers, var path] || (controllers.Length > 0 && !controllers.Split(',').Contains("memory")))
                {
                    continue;
                }

                var (folder, file) = controllers.Length == 0 ? ("sys/fs/cgroup", version2) : ("sys/fs/cgroup/memory", version1);
                string[] places = [Path.Combine(root, folder, path.TrimStart('/'), file), Path.Combine(root, folder, file)];
                if (places.FirstOrDefault(File.Exists) is { } found)
                {
                    return found;
                }
            }
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            // Then nothing is known of it.
        }

        return null;
    }

    private static long? Number(string file)
    {
        try
        {
            return long.TryParse(File.ReadAllText(file), NumberStyles.Integer, CultureInfo.InvariantCulture, out var bytes) ? bytes : null;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}
