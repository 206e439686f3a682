using System.Runtime.InteropServices;
using System.Security.Cryptography;

namespace LlmPipeline.Text.Sources;

/// <summary>Finds the files that sources name.</summary>
public static class SourceFiles
{
    /// <summary>Files of one source, at most: their list then takes some 500 MB.</summary>
    private const int MaxFiles = 10_000_000;

    /// <summary>
    /// Turns sources into files: in the order of the sources, and in ordinal order of paths within one; a file that two sources name
    /// is read once.
    /// </summary>
    /// <param name="sources">
    /// <c>dotnet-docs:</c>; a file, a folder (recursive; hidden entries are left out), or a glob; <c>https://</c>, <c>hf://datasets/</c> or <c>az://</c>.
    /// </param>
    /// <param name="options">How remote sources are reached.</param>
    /// <param name="cancellationToken">Stops the search.</param>
    /// <returns>The files; entries are made when they are asked for.</returns>
    /// <exception cref="TextSourceException">A source names nothing that can be read.</exception>
    public static async Task<IReadOnlyList<SourceFile>> FindAsync(IEnumerable<string> sources, SourceOptions options, CancellationToken cancellationToken = default)
    {
        var all = sources.ToList();
        var remote = new RemoteSources(options);
        var lists = new List<SourceFileList>();
        foreach (var source in all)
        {
            lists.Add(RemoteSources.IsRemote(source)
                ? [.. await remote.FindAsync(source, cancellationToken)]
                : await Task.Run(() => FindOne(source, cancellationToken), cancellationToken));
        }

        if (lists is [var single])
        {
            return single;
        }

        var files = new SourceFileList();
        var seen = new HashSet<UInt128>();
        foreach (var file in lists.SelectMany(l => l).Where(f => seen.Add(HashOf(f.Path))))
        {
            files.Add(file);
        }

        return files;
    }

    /// <summary>Makes a path absolute, so that it means the same everywhere; other sources stay as they are.</summary>
    public static string Resolve(string source) => source == DotnetDocs.Source || source.Length == 0 || RemoteSources.IsRemote(source) ? source : Path.GetFullPath(source);

    private static UInt128 HashOf(string path)
    {
        Span<byte> hash = stackalloc byte[32];
        SHA256.HashData(MemoryMarshal.AsBytes(path.AsSpan()), hash);
        return MemoryMarshal.Read<UInt128>(hash);
    }

    private static SourceFileList FindOne(string source, CancellationToken cancellationToken)
    {
        var files = new SourceFileList();
        if (source == DotnetDocs.Source)
        {
            foreach (var file in DotnetDocs.FindFiles())
            {
                files.Add(file);
            }

            return files;
        }

        if (string.IsNullOrWhiteSpace(source) || source.Contains('\0'))
        {
            throw new TextSourceException(TextSourceProblem.NotFound, "A source is empty. Give a file, a folder, a glob, an address, or dotnet-docs:.");
        }

        if (File.Exists(source))
        {
            files.Add(SourceFile.TryCreate(source) ?? throw new TextSourceException(TextSourceProblem.NotFound,
                $"'{source}' is not of a known format. Files end in {SourceFile.KnownEndings}; rename it, for example to '{Path.GetFileName(source)}.txt'."));
            return files;
        }

        var glob = PathGlob.IsGlob(source) ? PathGlob.Parse(source) : null;
        var root = glob?.Root ?? Path.GetFullPath(source);
        if (!Directory.Exists(root))
        {
            throw new TextSourceException(TextSourceProblem.NotFound,
                $"Source '{source}': '{root}' does not exist. Paths are those of the machine that runs the Preprocessor; give an absolute one.");
        }

        FolderWalk.Visit(root, (folder, entry) =>
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (SourceFile.FormatOf(entry.Name) is not var (format, compression) || glob?.Matches(folder + entry.Name) == false)
            {
                return true;
            }

            if (entry.Length < 0)
            {
                files.Add(SourceFile.Create(folder + entry.Name, format, compression));
            }
            else
            {
                files.Add(folder, entry.Name, entry.Length, entry.Ticks, format, compression);
            }

            return files.Count <= MaxFiles
                ? true
                : throw new TextSourceException(TextSourceProblem.Invalid, $"Source '{source}' names more than {MaxFiles:N0} files. Pack small documents into .jsonl files.");
        });
        return files.Count > 0 ? files : throw new TextSourceException(TextSourceProblem.NotFound,
            $"Source '{source}' names no file that ends in {SourceFile.KnownEndings}.");
    }
}
