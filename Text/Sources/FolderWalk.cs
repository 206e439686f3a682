using System.IO.Enumeration;

namespace LlmPipeline.Text.Sources;

/// <summary>
/// Walks a folder in ordinal order of full paths while it holds the names of one folder at a time. Hidden entries are left out. Links to
/// files are followed, links to folders are not: they may lead in circles.
/// </summary>
internal static class FolderWalk
{
    private static readonly EnumerationOptions Options = new() { AttributesToSkip = FileAttributes.Hidden | FileAttributes.System };

    /// <summary>Gives the files below a folder to <paramref name="visit"/>, until it returns false.</summary>
    /// <param name="root">Full path.</param>
    /// <param name="visit">Takes the folder with its separator and the entry; false ends the walk.</param>
    public static bool Visit(string root, Func<string, Entry, bool> visit)
    {
        var folder = Path.EndsInDirectorySeparator(root) ? root : root + Path.DirectorySeparatorChar;
        var entries = new FileSystemEnumerable<Entry>(folder, (ref FileSystemEntry entry) => Entry.From(ref entry), Options)
        {
            ShouldIncludePredicate = (ref FileSystemEntry entry) => !entry.IsDirectory || (entry.Attributes & FileAttributes.ReparsePoint) == 0,
        }.ToArray();

        // A folder's name sorts with its separator: the order of siblings is then that of the full paths below them.
        Array.Sort(entries, static (a, b) => string.CompareOrdinal(a.Name, b.Name));
        foreach (var entry in entries)
        {
            if (!(entry.IsFolder ? Visit(folder + entry.Name, visit) : visit(folder, entry)))
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>A file or a folder.</summary>
    internal readonly struct Entry
    {
        /// <summary>Without the folder; a folder's name ends with the separator.</summary>
        public required string Name { get; init; }

        /// <summary>Bytes of a file; -1 for a link.</summary>
        public required long Length { get; init; }

        /// <summary>Time of the last change, UTC.</summary>
        public required long Ticks { get; init; }

        public bool IsFolder => Path.EndsInDirectorySeparator(Name);

        public static Entry From(ref FileSystemEntry entry) => entry.IsDirectory
            ? new Entry { Name = $"{entry.FileName}{Path.DirectorySeparatorChar}", Length = 0, Ticks = 0 }
            : (entry.Attributes & FileAttributes.ReparsePoint) != 0
                ? new Entry { Name = entry.FileName.ToString(), Length = -1, Ticks = 0 }
                : new Entry { Name = entry.FileName.ToString(), Length = entry.Length, Ticks = entry.LastWriteTimeUtc.UtcTicks };
    }
}
