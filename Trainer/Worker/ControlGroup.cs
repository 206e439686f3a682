using System.Globalization;

namespace LlmPipeline.Trainer.Worker;

/// <summary>The Linux control group that this process runs in.</summary>
internal static class ControlGroup
{
    /// <summary>Processes that the kernel has killed in it for want of memory so far; null when that is not known.</summary>
    public static long? MemoryKills(string root = "/")
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

                var (folder, file) = controllers.Length == 0 ? ("sys/fs/cgroup", "memory.events") : ("sys/fs/cgroup/memory", "memory.oom_control");
                string[] places = [Path.Combine(root, folder, path.TrimStart('/'), file), Path.Combine(root, folder, file)];
                if (places.FirstOrDefault(File.Exists) is { } found
                    && File.ReadLines(found).Select(l => l.Split(' ')).FirstOrDefault(words => words is ["oom_kill", _]) is [_, var count]
                    && long.TryParse(count, NumberStyles.None, CultureInfo.InvariantCulture, out var kills))
                {
                    return kills;
                }
            }
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            // Not Linux, or hidden.
        }

        return null;
    }
}
