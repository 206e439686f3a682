using LlmPipeline.Text.Building;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Preprocessor;

/// <summary>Settings of the service; the defaults run as they are.</summary>
internal sealed record PreprocessorOptions
{
    public const string Section = "Preprocessor";

    /// <summary>Takes temporary files of the dataset in work. Default: the system's temporary folder.</summary>
    public string ScratchFolder { get; init; } = Path.GetTempPath();

    /// <summary>Documents in work at the same time. 0 means one a processor.</summary>
    public int Parallelism { get; init; }

    /// <summary>Bytes of source files in a unit of work, which one replica at a time works on. What is made does not depend on it.</summary>
    public long UnitBytes { get; init; } = DatasetBuilderOptions.DefaultUnitBytes;

    /// <summary>Folders that sources may be in, for services that others can reach. Empty: whatever the service can read.</summary>
    public string[] SourceRoots { get; init; } = [];

    /// <summary>Takes what is downloaded. Default: <c>llmpipeline-sources</c> in the scratch folder.</summary>
    public string CacheFolder { get; init; } = "";

    /// <summary>What <c>az://</c> means; set from the connection string <c>sources</c>.</summary>
    public string? AzureConnection { get; set; }

    /// <summary>Whether <see cref="SourceRoots"/> allow a source, or a file that is imported.</summary>
    /// <param name="source">A full path, or a source of another form.</param>
    public bool MayRead(string source) => SourceRoots.Length == 0 || source == DotnetDocs.Source || Array.Exists(SourceRoots, root =>
        source.StartsWith(Path.TrimEndingDirectorySeparator(Path.GetFullPath(root)) + Path.DirectorySeparatorChar, StringComparison.Ordinal)
        || source == Path.TrimEndingDirectorySeparator(Path.GetFullPath(root)));

    /// <summary>How remote sources are fetched.</summary>
    public SourceOptions Sources() => new()
    {
        CacheFolder = CacheFolder.Length > 0 ? CacheFolder : Path.Combine(ScratchFolder, "llmpipeline-sources"),
        AzureConnection = AzureConnection,
    };
}
