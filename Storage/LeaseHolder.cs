using System.Globalization;

namespace LlmPipeline.Storage;

/// <summary>
/// The process that holds a lease, as another process of the same machine can look it up: boot, process namespace, process id and start
/// time. Only Linux tells it; elsewhere, and for a holder on another machine, a lease ends by its time alone.
/// </summary>
internal static class LeaseHolder
{
    /// <summary>This process; "-" where it cannot be told.</summary>
    public static string Own { get; } = OfThisProcess();

    /// <summary>Whether a holder is known to have ended.</summary>
    public static bool HasEnded(string holder)
    {
        var (theirs, own) = (holder.Split('/'), Own.Split('/'));
        if (theirs.Length != 4 || own.Length != 4 || theirs[0] != own[0] || theirs[1] != own[1] || !int.TryParse(theirs[2], NumberStyles.None, CultureInfo.InvariantCulture, out var id))
        {
            return false;
        }

        try
        {
            var (state, started) = Stat(id);
            return state == "Z" || started != theirs[3];
        }
        catch (Exception exception) when (exception is FileNotFoundException or DirectoryNotFoundException)
        {
            return true;
        }
        catch (IOException)
        {
            return false;
        }
    }

    private static string OfThisProcess()
    {
        try
        {
            if (OperatingSystem.IsLinux())
            {
                var boot = File.ReadAllText("/proc/sys/kernel/random/boot_id").Trim();
                var space = File.ResolveLinkTarget("/proc/self/ns/pid", returnFinalTarget: false)?.Name.Replace('/', '~') ?? "";
                return string.Create(CultureInfo.InvariantCulture, $"{boot}/{space}/{Environment.ProcessId}/{Stat(Environment.ProcessId).Started}");
            }
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            // Then its time alone ends a lease.
        }

        return "-";
    }

    private static (string State, string Started) Stat(int id)
    {
        var text = File.ReadAllText(string.Create(CultureInfo.InvariantCulture, $"/proc/{id}/stat"));
        var fields = text[(text.LastIndexOf(')') + 2)..].Split(' ');
        return (fields[0], fields[19]);
    }
}
