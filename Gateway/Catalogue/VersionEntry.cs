namespace LlmPipeline.Gateway.Catalogue;

/// <summary>What is known of one version; guarded by the lock of <see cref="ModelCatalogue"/>.</summary>
internal sealed class VersionEntry(ModelVersion version)
{
    public ModelVersion Version { get; set; } = version;

    public LoadedModel? Loaded { get; set; }

    /// <summary>It has been loaded once, so it may serve.</summary>
    public bool WasLoaded { get; set; }

    public Task? Loading { get; set; }

    /// <summary>Why the last load failed.</summary>
    public Exception? Failure { get; set; }

    /// <summary>When a load that failed may be tried again; null: never.</summary>
    public DateTimeOffset? RetryAt { get; set; }
}
