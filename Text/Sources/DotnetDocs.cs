using System.Runtime.InteropServices;

namespace LlmPipeline.Text.Sources;

/// <summary>The XML documentation that ships with the .NET SDK, as a text source that is always there.</summary>
public static class DotnetDocs
{
    /// <summary>How the source is written.</summary>
    public const string Source = "dotnet-docs:";

    /// <summary>The files: <c>packs/*.Ref/**/*.xml</c> below the .NET installation, the newest version of each pack.</summary>
    /// <exception cref="TextSourceException">No installation with these files was found.</exception>
    public static IReadOnlyList<SourceFile> FindFiles() => FindFiles(InstallationFolders());

    internal static IReadOnlyList<SourceFile> FindFiles(IEnumerable<string> roots)
    {
        var searched = new List<string>();
        foreach (var root in roots)
        {
            searched.Add(root);
            var packs = Path.Combine(root, "packs");
            if (!Directory.Exists(packs))
            {
                continue;
            }

            List<SourceFile> files = [..
                Directory.EnumerateDirectories(packs, "*.Ref").Order(StringComparer.Ordinal)
                    .Select(NewestVersion).OfType<string>()
                    .SelectMany(folder => Directory.EnumerateFiles(folder, "*.xml", SearchOption.AllDirectories).Order(StringComparer.Ordinal))
                    .Where(file => !file.EndsWith("FrameworkList.xml", StringComparison.OrdinalIgnoreCase))
                    .Select(file => SourceFile.Create(file, SourceFormat.XmlDocumentation))];
            if (files.Count > 0)
            {
                return files;
            }
        }

        throw new TextSourceException(TextSourceProblem.NotFound,
            $"{Source} found no XML documentation (packs/*.Ref/**/*.xml) in {string.Join(", ", searched.Select(r => $"'{r}'"))}. "
            + "Install the .NET SDK, point DOTNET_ROOT to it, or use text of your own with --text FOLDER.");
    }

    private static string? NewestVersion(string pack) =>
        Directory.EnumerateDirectories(pack)
            .OrderByDescending(folder => Version.TryParse(Path.GetFileName(folder).Split('-')[0], out var version) ? version : new Version())
            .ThenByDescending(folder => folder, StringComparer.Ordinal)
            .FirstOrDefault();

    private static IEnumerable<string> InstallationFolders()
    {
        var candidates = new List<string?> { Environment.GetEnvironmentVariable("DOTNET_ROOT") };

        // .../shared/Microsoft.NETCore.App/10.0.0/
        candidates.Add(Path.GetFullPath(Path.Combine(RuntimeEnvironment.GetRuntimeDirectory(), "..", "..", "..")));
        candidates.Add(FolderOf(Environment.GetEnvironmentVariable("DOTNET_HOST_PATH")));
        var executable = OperatingSystem.IsWindows() ? "dotnet.exe" : "dotnet";
        candidates.AddRange((Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries)
            .Select(folder => FolderOf(Path.Combine(folder, executable))));
        return candidates.Where(Directory.Exists).Select(c => Path.TrimEndingDirectorySeparator(Path.GetFullPath(c!))).Distinct(StringComparer.Ordinal);
    }

    private static string? FolderOf(string? executable)
    {
        if (string.IsNullOrEmpty(executable) || !File.Exists(executable))
        {
            return null;
        }

        var target = new FileInfo(executable).ResolveLinkTarget(returnFinalTarget: true);
        return Path.GetDirectoryName(target?.FullName ?? executable);
    }
}
