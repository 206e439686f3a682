using System.Numerics;
using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using LlmPipeline.Models;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;
using LlmPipeline.Trainer.Coordinator;

namespace LlmPipeline.Trainer.Worker;

/// <summary>
/// Checkpoints in storage: a model directory with <c>optimizer.safetensors</c> (for each tensor the optimizer's buffers, for
/// example <c>NAME.exp_avg</c>), <c>trainer_state.json</c> and <c>history.json</c>.
/// </summary>
/// <param name="store">Where they lie.</param>
/// <param name="tokenizerJson">The tokenizer that goes with the model.</param>
/// <param name="logger">Told what could not be removed.</param>
internal sealed partial class CheckpointStore(IBlobStore store, string tokenizerJson, ILogger? logger = null) : ICheckpointStore
{
    public const string OptimizerFile = "optimizer.safetensors";
    public const string StateFile = "trainer_state.json";
    public const string HistoryFile = "history.json";

    /// <inheritdoc/>
    public string Save(ReplicaSnapshot snapshot, int keep)
    {
        // Whoever went back to it would be no better off.
        if (!AreFinite(snapshot.Values ?? snapshot.Model.Parameters.Values) || snapshot.Optimizer.Any(state => !AreFinite(state.Buffer)))
        {
            throw new FatalTrainingException(ErrorReasons.LossNotFinite,
                $"The weights after step {snapshot.State.Step}, or the optimizer's state, are not finite, so no checkpoint is made of them. Lower optimizer.learning_rate or set optimizer.clip_norm in another run.");
        }

        return SaveAsync(snapshot, keep).GetAwaiter().GetResult();
    }

    /// <inheritdoc/>
    public long NewestIntact(string run, long step) =>
        Checkpoints.NewestIntactAsync(store, run, step, CancellationToken.None).GetAwaiter().GetResult().Newest?.Step ?? 0;

    /// <inheritdoc/>
    public TrainerState Load(Replica replica, long step) =>
        LoadAsync(store, ResourceName.Checkpoint(replica.Run, step), replica, CancellationToken.None).GetAwaiter().GetResult();

    /// <summary>Loads a checkpoint into a replica's model and optimizer state, and returns its position.</summary>
    /// <exception cref="BlobNotFoundException">There is no such checkpoint.</exception>
    /// <exception cref="IOException">A file is missing or changed; the message names it.</exception>
    /// <exception cref="InvalidDataException">A file does not belong to this model; the message names it.</exception>
    public static async Task<TrainerState> LoadAsync(IBlobStore store, string name, Replica replica, CancellationToken cancellationToken)
    {
        var folder = await store.GetVerifiedLocalDirectoryAsync(name, anew: true, cancellationToken);
        var parameters = replica.Model.Parameters;
        ModelDirectory.LoadWeights(folder, replica.Model);
        using var optimizer = SafetensorsFile.Open(Path.Combine(folder, OptimizerFile));
        foreach (var (bufferName, buffer) in replica.Optimizer.StateNames.Zip(replica.OptimizerState))
        {
            foreach (var view in parameters.Views)
            {
                Read(view, $"{view.Name}.{bufferName}", buffer);
            }
        }

        replica.HostChanged();
        var state = TrainerState.Parse(await File.ReadAllTextAsync(Path.Combine(folder, StateFile), cancellationToken), $"{name}/{StateFile}");
        if (state.Step != ResourceName.ParseCheckpoint(name).Step)
        {
            throw new InvalidDataException($"{name}/{StateFile} is of step {state.Step}.");
        }

        // Checkpoints of older versions have none.
        if (Path.Combine(folder, HistoryFile) is var history && File.Exists(history))
        {
            replica.Remember(StepHistory.Parse(await File.ReadAllTextAsync(history, cancellationToken), $"{name}/{HistoryFile}"));
        }

        return state;

        void Read(ParameterView view, string tensorName, float[] destination)
        {
            if (!optimizer.Tensors.TryGetValue(tensorName, out var tensor) || !tensor.Shape.SequenceEqual(view.Shape))
            {
                throw new InvalidDataException($"{name}/{OptimizerFile} has no '{tensorName}' of shape [{string.Join(", ", view.Shape)}].");
            }

            optimizer.Read(tensorName, destination.AsSpan(view.Offset, view.Length));
        }
    }

    private async Task<string> SaveAsync(ReplicaSnapshot snapshot, int keep)
    {
        var state = snapshot.State;
        var name = ResourceName.Checkpoint(state.Run, state.Step);
        var properties = new JsonObject
        {
            ["run"] = state.Run,
            ["step"] = state.Step,
            ["token_count"] = state.TokenCount,
            ["train_seconds"] = state.TrainSeconds,
            ["validation_loss"] = state.ValidationStep == state.Step ? state.ValidationLoss : null,
        };
        var existing = await store.TryReadManifestAsync(name);
        if (existing is not null && existing.Properties.ToJsonString() == properties.ToJsonString())
        {
            return name;
        }

        if (existing is not null)
        {
            await store.DeleteDirectoryAsync(name);
        }

        var directory = store.CreateDirectory(name);
        await ModelDirectory.WriteAsync(directory, snapshot.Model, tokenizerJson, snapshot.Values);
        await directory.WriteAsync(OptimizerFile, (stream, token) => Safetensors.WriteAsync(stream, OptimizerEntries(snapshot), null, token));
        await directory.WriteTextAsync(StateFile, state.ToJson());
        await directory.WriteTextAsync(HistoryFile, snapshot.History.ToJson());
        await directory.CommitAsync(properties);
        await PruneAsync(state, keep);
        return name;
    }

    private static bool AreFinite(ReadOnlySpan<float> values)
    {
        // 0 for a number, NaN for all else.
        var sums = Vector<float>.Zero;
        var vectors = MemoryMarshal.Cast<float, Vector<float>>(values);
        foreach (var vector in vectors)
        {
            sums += vector - vector;
        }

        foreach (var value in values[(vectors.Length * Vector<float>.Count)..])
        {
            sums += new Vector<float>(value - value);
        }

        return Vector.EqualsAll(sums, Vector<float>.Zero);
    }

    private static List<SafetensorsEntry> OptimizerEntries(ReplicaSnapshot snapshot) =>
    [
        .. from view in snapshot.Model.Parameters.Views
           from state in snapshot.Optimizer
           select new SafetensorsEntry(
               $"{view.Name}.{state.Name}", view.Shape,
               (offset, destination) => state.Buffer.AsSpan(view.Offset + (int)offset, destination.Length).CopyTo(destination)),
    ];

    /// <summary>Removes older checkpoints, and what is left of broken attempts to write one, except the newest and the best.</summary>
    private async Task PruneAsync(TrainerState state, int keep)
    {
        try
        {
            var steps = new SortedSet<long>();
            await foreach (var blob in store.ListAsync($"{state.Run}/checkpoints/"))
            {
                if (blob.Name.Split('/') is [_, _, _, var step, _] && long.TryParse(step, out var number) && number <= state.Step)
                {
                    steps.Add(number);
                }
            }

            // What is best, storage knows: a rank 0 that is new has not written it itself.
            var committed = (await Checkpoints.ListAsync(store, state.Run, CancellationToken.None)).Where(c => c.Step <= state.Step).ToList();
            var kept = committed.Select(c => c.Step).TakeLast(keep).Append(Checkpoints.Best(committed)?.Step ?? 0).ToHashSet();
            foreach (var step in steps.Where(s => !kept.Contains(s)))
            {
                await store.DeleteDirectoryAsync(ResourceName.Checkpoint(state.Run, step));
            }
        }
        catch (Exception exception) when (StorageFailure.Is(exception))
        {
            // The new checkpoint counts.
            if (logger is not null)
            {
                LogNotRemoved(logger, exception, state.Run);
            }
        }
    }

    [LoggerMessage(2504, LogLevel.Warning, "Older checkpoints of {Run} could not be removed; they are removed after the next one.")]
    private static partial void LogNotRemoved(ILogger logger, Exception exception, string run);
}
