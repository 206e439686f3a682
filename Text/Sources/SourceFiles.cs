using System.IO.Enumeration;

namespace LlmPipeline.Text.Sources;

/// <summary>Finds the files that sources name.</summary>
public static class SourceFiles
{
    /// <summary>Files of one dataset, at most.</summary>
    private const int MaxFiles = 1_000_000;

    /// <summary>
    /// Turns sources into files: in the order of the sources, and in ordinal order of paths within one; a file that two sources name
    /// is read once.
    /// </summary>
    /// <param name="sources"><c>dotnet-docs:</c>, or a file, a folder (recursive; hidden entries are left out), or a glob.</param>
    /// <exception cref="TextSourceException">A source names nothing that can be read.</exception>
    public static IReadOnlyList<SourceFile> Find(IEnumerable<string> sources)
    {
        var files = new List<SourceFile>();
        var seen = new HashSet<string>(StringComparer.Ordinal);
        foreach (var source in sources)
        {
            files.AddRange(FindOne(source).Where(f => seen.Add(f.Path)));
        }

        return files;
    }

    /// <summary>Makes a path absolute, so that it means the same everywhere; other sources stay as they are.</summary>
    public static string Resolve(string source) => source == DotnetDocs.Source || source.Length == 0 ? source : Path.GetFullPath(source);

    private static IReadOnlyList<SourceFile> FindOne(string source)
    {
        if (source == DotnetDocs.Source)
        {
            return DotnetDocs.FindFiles();
        }

        if (string.IsNullOrWhiteSpace(source) || source.Contains('\0'))
        {
            throw new TextSourceException(TextSourceProblem.NotFound, "A source is empty. Give a file, a folder, a glob, or dotnet-docs:.");
        }

        if (File.Exists(source))
        {
            return [SourceFile.TryCreate(source) ?? throw new TextSourceException(TextSourceProblem.NotFound,
                $"'{source}' is not of a known format. Files end in {SourceFile.KnownEndings}; rename it, for example to '{Path.GetFileName(source)}.txt'.")];
        }

        var glob = PathGlob.IsGlob(source) ? PathGlob.Parse(source) : null;
        var root = glob?.Root ?? Path.GetFullPath(source);
        if (!Directory.Exists(root))
        {
            throw new TextSourceException(TextSourceProblem.NotFound,
                $"Source '{source}': '{root}' does not exist. Paths are those of the machine that runs the Preprocessor; give an absolute one.");
        }

        var paths = Enumerate(root).Where(p => glob is null || glob.Matches(p)).Take(MaxFiles + 1).ToList();
        if (paths.Count > MaxFiles)
        {
            throw new TextSourceException(TextSourceProblem.Invalid, $"Source '{source}' names more than {MaxFiles:N0} files. Pack small documents into .jsonl files.");
        }

        paths.Sort(StringComparer.Ordinal);
        List<SourceFile> files = [.. paths.Select(SourceFile.TryCreate).OfType<SourceFile>()];
        return files.Count > 0 ? files : throw new TextSourceException(TextSourceProblem.NotFound,
            $"Source '{source}' names no file that ends in {SourceFile.KnownEndings}.");
    }

    // Links to files are followed, links to folders are not: they may lead in circles.
    private static FileSystemEnumerable<string> Enumerate(string root) => new(root, (ref FileSystemEntry entry) => entry.ToFullPath(), new EnumerationOptions
    {
        RecurseSubdirectories = true,
        AttributesToSkip = FileAttributes.Hidden | FileAttributes.System,
    })
    {
        ShouldIncludePredicate = (ref FileSystemEntry entry) => !entry.IsDirectory,
        ShouldRecursePredicate = (ref FileSystemEntry entry) => (entry.Attributes & FileAttributes.ReparsePoint) == 0,
    };
}
