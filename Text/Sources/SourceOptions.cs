namespace LlmPipeline.Text.Sources;

/// <summary>Where and how sources are fetched; the text that is read does not depend on it.</summary>
public sealed record SourceOptions
{
    /// <summary>Takes what is downloaded; may be deleted whenever no dataset is being made. Default: a folder in the system's temporary folder.</summary>
    public string CacheFolder { get; init; } = Path.Combine(Path.GetTempPath(), "llmpipeline-sources");
}
