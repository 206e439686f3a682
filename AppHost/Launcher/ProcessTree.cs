using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;

namespace LlmPipeline.AppHost.Launcher;

/// <summary>A process and those that it started, so that none of them stays behind.</summary>
internal static partial class ProcessTree
{
    private const int SigTerm = 15;
    private const int SigKill = 9;

    /// <summary>A process of Linux: an id alone may belong to another one later.</summary>
    public readonly record struct Member(int Id, long StartTime);

    /// <summary>
    /// Asks the process and its descendants to end (Linux: all of them, other Unix: the process, Windows: nobody).
    /// Returns the descendants that are known.
    /// </summary>
    public static IReadOnlyList<Member> Terminate(Process process)
    {
        if (OperatingSystem.IsWindows())
        {
            return [];
        }

        var descendants = Descendants(process.Id);
        _ = SendSignal(process.Id, SigTerm);
        foreach (var member in descendants)
        {
            _ = SendSignal(member.Id, SigTerm);
        }

        return descendants;
    }

    /// <summary>Ends the process and its descendants.</summary>
    public static void Kill(Process process)
    {
        try
        {
            process.Kill(entireProcessTree: true);
        }
        catch (InvalidOperationException)
        {
            // It ended meanwhile.
        }
    }

    /// <summary>Ends those that outlived the process they descend from.</summary>
    public static void KillOrphans(IEnumerable<Member> descendants)
    {
        foreach (var member in descendants)
        {
            if (StatOf(member.Id) is { } stat && stat.StartTime == member.StartTime)
            {
                _ = SendSignal(member.Id, SigKill);
            }
        }
    }

    private static List<Member> Descendants(int root)
    {
        if (!OperatingSystem.IsLinux())
        {
            return [];
        }

        var children = Directory.EnumerateDirectories("/proc")
            .Select(path => int.TryParse(Path.GetFileName(path), NumberStyles.None, CultureInfo.InvariantCulture, out var id) ? id : 0)
            .Where(id => id > 0)
            .Select(id => (Id: id, Stat: StatOf(id)))
            .Where(process => process.Stat is not null)
            .ToLookup(process => process.Stat!.Value.Parent, process => new Member(process.Id, process.Stat!.Value.StartTime));
        List<Member> tree = [.. children[root]];
        for (var i = 0; i < tree.Count; i++)
        {
            tree.AddRange(children[tree[i].Id]);
        }

        return tree;
    }

    // Fields 4 and 22 of /proc/ID/stat; the 2nd is the name in parentheses, which may hold anything.
    private static (int Parent, long StartTime)? StatOf(int id)
    {
        try
        {
            var stat = File.ReadAllText($"/proc/{id}/stat");
            var fields = stat[(stat.LastIndexOf(')') + 2)..].Split(' ');
            return (int.Parse(fields[1], CultureInfo.InvariantCulture), long.Parse(fields[19], CultureInfo.InvariantCulture));
        }
        catch (IOException)
        {
            return null;
        }
    }

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int SendSignal(int id, int signal);
}
