using System.Globalization;
using LlmPipeline.Workers.V1;

namespace LlmPipeline.Trainer.Worker;

/// <summary>Memory of the control group (container) that this process runs in, as Linux tells it: version 1 or 2.</summary>
internal static class ControlGroupMemory
{
    private const string Root = "/sys/fs/cgroup";

    /// <summary>What version 1 says for "no limit" is the largest number of whole pages.</summary>
    private const long NoLimit = 1L << 60;

    private static readonly (string Used, string Limit)? Files = Find();

    /// <summary>What is in use and allowed now; null where nothing is limited, or on another system.</summary>
    public static MemoryUse? Read() => Files is var (used, limit) && Number(limit) is { } most and < NoLimit && Number(used) is { } now
        ? new MemoryUse { UsedBytes = now, LimitBytes = most }
        : null;

    private static (string Used, string Limit)? Find()
    {
        try
        {
            foreach (var line in OperatingSystem.IsLinux() ? File.ReadLines("/proc/self/cgroup") : [])
            {
                // "4:memory:/path" (version 1) or "0::/path" (version 2). In a container the path may be the host's, and the root is its own.
                var parts = line.Split(':', 3);
                var isMemory = parts[1].Split(',').Contains("memory");
                if (!isMemory && parts[1].Length > 0)
                {
                    continue;
                }

                var root = isMemory ? $"{Root}/memory" : Root;
                var (used, limit) = isMemory ? ("memory.usage_in_bytes", "memory.limit_in_bytes") : ("memory.current", "memory.max");
                if (new[] { root + parts[2].TrimEnd('/'), root }.FirstOrDefault(folder => File.Exists(Path.Combine(folder, limit))) is { } found)
                {
                    return (Path.Combine(found, used), Path.Combine(found, limit));
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
