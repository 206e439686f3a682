using System.Text.Json.Nodes;
using LlmPipeline.Storage;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary>A checkpoint whose manifest is committed.</summary>
/// <param name="Name">Format: <c>runs/{r}/checkpoints/{step}</c>.</param>
/// <param name="Step">Steps done.</param>
/// <param name="ValidationLoss">Nats per token, if it was measured at that step.</param>
/// <param name="TrainSeconds">Seconds of training that it took.</param>
internal sealed record CommittedCheckpoint(string Name, long Step, double? ValidationLoss, double TrainSeconds);

/// <summary>What storage knows of the checkpoints of runs: the truth, whatever was reported.</summary>
internal static class Checkpoints
{
    /// <summary>The committed checkpoints of a run, oldest first.</summary>
    /// <param name="store">Where they lie.</param>
    /// <param name="run">Format: <c>runs/{r}</c>.</param>
    /// <param name="cancellationToken">Ends the reading.</param>
    public static async Task<IReadOnlyList<CommittedCheckpoint>> ListAsync(IBlobStore store, string run, CancellationToken cancellationToken)
    {
        var found = new List<CommittedCheckpoint>();
        await foreach (var blob in store.ListAsync($"{run}/checkpoints/", cancellationToken))
        {
            if (blob.Name.Split('/') is [_, _, _, var step, "manifest.json"] && long.TryParse(step, out var number))
            {
                found.Add(await ReadAsync(store, blob.Name[..blob.Name.LastIndexOf('/')], number, cancellationToken));
            }
        }

        return [.. found.OrderBy(c => c.Step)];
    }

    /// <summary>The one with the lowest validation loss; of equals the oldest. Null when none was measured.</summary>
    public static CommittedCheckpoint? Best(IEnumerable<CommittedCheckpoint> checkpoints) =>
        checkpoints.Where(c => c.ValidationLoss is not null).OrderBy(c => c.ValidationLoss).ThenBy(c => c.Step).FirstOrDefault();

    /// <summary>
    /// The newest checkpoint up to a step whose files are what its manifest says, and the damaged ones that are newer. Reads all
    /// files of what it looks at.
    /// </summary>
    public static async Task<(CommittedCheckpoint? Newest, IReadOnlyList<CommittedCheckpoint> Damaged)> NewestIntactAsync(
        IBlobStore store, string run, long step, CancellationToken cancellationToken)
    {
        var damaged = new List<CommittedCheckpoint>();
        foreach (var checkpoint in (await ListAsync(store, run, cancellationToken)).Where(c => c.Step <= step).Reverse())
        {
            try
            {
                await store.VerifyDirectoryAsync(checkpoint.Name, cancellationToken);
                return (checkpoint, damaged);
            }
            catch (Exception exception) when (exception is CorruptDirectoryException or BlobNotFoundException)
            {
                damaged.Add(checkpoint);
            }
        }

        return (null, damaged);
    }

    private static async Task<CommittedCheckpoint> ReadAsync(IBlobStore store, string name, long step, CancellationToken cancellationToken)
    {
        DirectoryManifest? manifest = null;
        try
        {
            manifest = await store.TryReadManifestAsync(name, cancellationToken);
        }
        catch (CorruptDirectoryException)
        {
            // Whoever loads it gets the error, which names it.
        }

        return new CommittedCheckpoint(name, step, Number("validation_loss"), Number("train_seconds") ?? 0);

        double? Number(string key) => manifest?.Properties[key] is JsonValue value && value.TryGetValue<double>(out var number) ? number : null;
    }
}
