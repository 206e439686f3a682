using System.Diagnostics;
using System.Text.Json.Nodes;
using LlmPipeline.Storage;
using LlmPipeline.Text.Shards;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Text.Building;

/// <summary>Where and how a builder works; what it makes does not depend on it.</summary>
/// <param name="ScratchFolder">Takes temporary files: indexes that do not fit into memory, documents that are put into another order.</param>
/// <param name="Degree">Documents in work at the same time.</param>
public sealed record DatasetBuilderOptions(string ScratchFolder, int Degree)
{
    /// <summary>Small enough to be spread over replicas and to be done again, large enough not to be many.</summary>
    public const long DefaultUnitBytes = 32 << 20;

    /// <summary>The system's temporary folder and all processors.</summary>
    public static DatasetBuilderOptions Default => new(Path.GetTempPath(), Environment.ProcessorCount);

    /// <summary>How remote sources are fetched.</summary>
    public SourceOptions Sources { get; init; } = new();

    /// <summary>Bytes of source files in a unit of work.</summary>
    public long UnitBytes { get; init; } = DefaultUnitBytes;

    internal long MaxShardBytes { get; init; } = ShardWriter.DefaultMaxShardBytes;
}

/// <summary>
/// Makes a dataset: plans units of work, reads and cleans each, drops duplicates and divides, counts words, trains a tokenizer, encodes each
/// unit, writes. The same recipe over the same files gives the same bytes, on any number of processors and of processes: one process at a
/// time builds, any number of others may help (see <see cref="JobFolder"/> and <see cref="PieceStage{T}"/>).
/// </summary>
public sealed class DatasetBuilder(IBlobStore store, DatasetBuilderOptions options)
{
    /// <summary>Makes a dataset and commits it. One process at a time may do this for a dataset; one that comes after it goes on where it was.</summary>
    /// <param name="recipe">What to make.</param>
    /// <param name="target">Name and origin of the dataset.</param>
    /// <param name="progress">Is moved on while the work goes on.</param>
    /// <param name="onStage">Awaited at the begin of each stage.</param>
    /// <param name="lease">Says that no other process does the same; where it is lost, nothing is committed.</param>
    /// <param name="cancellationToken">Stops the work; nothing is committed then.</param>
    /// <exception cref="TextSourceException">The sources cannot be used.</exception>
    /// <exception cref="BlobNotFoundException">The recipe names a tokenizer that does not exist.</exception>
    public async Task<DatasetProperties> BuildAsync(
        DatasetRecipe recipe, DatasetTarget target, BuildProgress progress, Func<BuildStage, Task> onStage, HeldLease? lease = null, CancellationToken cancellationToken = default)
    {
        ResourceName.IdOf(target.Name, "datasets");
        var job = new JobDescription(Guid.NewGuid().ToString("N"), target.Name, recipe, target.Spec, target.Fingerprint, Activity.Current?.Id);
        var folder = await JobFolder.BeginAsync(store, job, cancellationToken);
        try
        {
            var properties = await new DatasetBuild(store, folder, options, progress, onStage).RunAsync(lease, cancellationToken);
            await JobFolder.DeleteAsync(store, target.Name, cancellationToken);
            return properties;
        }
        catch (Exception exception) when (exception is TextSourceException or InvalidDataException)
        {
            // It would end in the same way again.
            await JobFolder.DeleteAsync(store, target.Name, CancellationToken.None);
            throw;
        }
    }

    /// <summary>Works on pieces of a dataset that another process builds, until none is free; false when there was none.</summary>
    /// <param name="name">Format: <c>datasets/{d}</c>.</param>
    /// <param name="progress">Counts what is done here.</param>
    /// <param name="cancellationToken">Stops the work.</param>
    public async Task<bool> HelpAsync(string name, BuildProgress progress, CancellationToken cancellationToken = default)
    {
        if (await JobFolder.TryOpenAsync(store, name, cancellationToken) is not { } folder)
        {
            return false;
        }

        try
        {
            return await new DatasetBuild(store, folder, options, progress, _ => Task.CompletedTask).HelpAsync(cancellationToken);
        }
        catch (BlobNotFoundException)
        {
            // The job ended, or was begun anew.
            return false;
        }
    }

    /// <summary>Removes what is left of the making of a dataset that nobody makes any more.</summary>
    /// <param name="name">Format: <c>datasets/{d}</c>.</param>
    /// <param name="cancellationToken">Stops the work.</param>
    public Task CleanAsync(string name, CancellationToken cancellationToken = default) => JobFolder.DeleteAsync(store, name, cancellationToken);
}

/// <summary>What is made.</summary>
/// <param name="Name">Format: <c>datasets/{d}</c>.</param>
/// <param name="Spec">The fully resolved spec, kept in the manifest.</param>
/// <param name="Fingerprint">Identifies spec and source files, kept in the manifest.</param>
public sealed record DatasetTarget(string Name, JsonNode? Spec = null, string? Fingerprint = null);
