using System.Text.RegularExpressions;
using LlmPipeline.Datasets.V1;
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
        var spec = new RunSpec();
        YamlMessageReader.Read(file, ReadText(file, directory, "a run file, for example samples/dotnet-docs.yaml"), spec);
        Overrides.Apply(overrides, spec);
        if (!spec.HasDatasetName && spec.Dataset is not ({ Sources.Count: > 0 } or { Mixture.Count: > 0 }))
        {
            throw new RunFileException($"{file}: no text is named. Set dataset.sources, for example with --set dataset.sources=FOLDER, or dataset_name for a dataset that exists.");
        }

        if (spec.Dataset is not null)
        {
            ResolveSources(spec.Dataset, directory);
        }

        return spec;
    }

    /// <summary>Reads a dataset file, applies the options and makes local sources absolute.</summary>
    /// <param name="file">Path; may be relative to <paramref name="directory"/>; null when the sources say it all.</param>
    /// <param name="sources">Set instead of those of the file, unless empty.</param>
    /// <param name="overrides">KEY=VALUE each.</param>
    /// <param name="directory">The current directory: paths of sources are relative to it.</param>
    /// <exception cref="RunFileException">The file cannot be read, or something in it does not fit.</exception>
    public static DatasetSpec LoadDataset(string? file, IReadOnlyList<string> sources, IReadOnlyList<string> overrides, string directory)
    {
        var spec = new DatasetSpec();
        if (file is not null)
        {
            YamlMessageReader.Read(file, ReadText(file, directory, "a dataset file, for example samples/mixture.yaml"), spec);
        }

        if (sources.Count > 0)
        {
            spec.Mixture.Clear();
            spec.Sources.Clear();
            spec.Sources.AddRange(sources);
        }

        Overrides.Apply(overrides, spec);
        if (spec.Sources.Count == 0 && spec.Mixture.Count == 0)
        {
            throw new RunFileException($"{file ?? "datasets create"}: no text is named. Give --source FOLDER, or a file with sources or a mixture.");
        }

        ResolveSources(spec, directory);
        return spec;
    }

    private static string ReadText(string file, string directory, string what)
    {
        try
        {
            return File.ReadAllText(Path.Combine(directory, file));
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new RunFileException($"{file}: cannot be read: {exception.Message} Give the path of {what}.");
        }
    }

    private static void ResolveSources(DatasetSpec spec, string directory)
    {
        foreach (var sources in spec.Mixture.Select(p => p.Sources).Prepend(spec.Sources))
        {
            for (var i = 0; i < sources.Count; i++)
            {
                sources[i] = Resolve(sources[i], directory);
            }
        }
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
