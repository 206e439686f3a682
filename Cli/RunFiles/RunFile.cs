using System.Text.RegularExpressions;
using LlmPipeline.Runs.V1;

namespace LlmPipeline.Cli.RunFiles;

/// <summary>Makes the spec to send from a run file and --set options.</summary>
internal static partial class RunFile
{
    /// <summary>Reads a run file, applies the options and makes local sources absolute.</summary>
    /// <param name="file">Path; may be relative to <paramref name="directory"/>.</param>
    /// <param name="overrides">KEY=VALUE each.</param>
    /// <param name="directory">The current directory: paths of sources are relative to it.</param>
    /// <exception cref="RunFileException">The file cannot be read, or something in it does not fit.</exception>
    public static RunSpec Load(string file, IReadOnlyList<string> overrides, string directory)
    {
        string yaml;
        try
        {
            yaml = File.ReadAllText(Path.Combine(directory, file));
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new RunFileException($"{file}: cannot be read: {exception.Message} Give the path of a run file, for example samples/dotnet-docs.yaml.");
        }

        var spec = new RunSpec();
        YamlMessageReader.Read(file, yaml, spec);
        Overrides.Apply(overrides, spec);
        if (!spec.HasDatasetName && spec.Dataset is not { Sources.Count: > 0 })
        {
            throw new RunFileException($"{file}: no text is named. Set dataset.sources, for example with --set dataset.sources=FOLDER, or dataset_name for a dataset that exists.");
        }

        for (var i = 0; i < (spec.Dataset?.Sources.Count ?? 0); i++)
        {
            spec.Dataset!.Sources[i] = Resolve(spec.Dataset.Sources[i], directory);
        }

        return spec;
    }

    /// <summary>Makes a path absolute; a source with a scheme, like <c>dotnet-docs:</c>, stays as it is.</summary>
    /// <exception cref="RunFileException">There is no such file or folder.</exception>
    public static string Resolve(string source, string directory)
    {
        if (Scheme().IsMatch(source))
        {
            return source;
        }

        var path = Path.GetFullPath(Path.Combine(directory, source));
        var wildcard = path.AsSpan().IndexOfAny('*', '?');
        var existing = wildcard < 0 ? path : Path.GetDirectoryName(path[..wildcard] + "x")!;
        if (source.Length == 0 || !(Directory.Exists(existing) || (wildcard < 0 && File.Exists(existing))))
        {
            throw new RunFileException(
                $"the source '{source}' does not exist: there is no '{existing}'. Paths are relative to the current directory; name a file, a folder, a glob, or 'dotnet-docs:'.");
        }

        return path;
    }

    // Two letters at least: one is a Windows drive.
    [GeneratedRegex("^[A-Za-z][A-Za-z0-9+.-]+:", RegexOptions.CultureInvariant)]
    private static partial Regex Scheme();
}
