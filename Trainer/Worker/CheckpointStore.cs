using System.Text.Json.Nodes;
using LlmPipeline.Models;
using LlmPipeline.Storage;

namespace LlmPipeline.Trainer.Worker;

/// <summary>
/// Checkpoints in storage: a model directory with <c>optimizer.safetensors</c> (for each tensor the optimizer's buffers, for
/// example <c>NAME.exp_avg</c>) and <c>trainer_state.json</c>.
/// </summary>
/// <param name="store">Where they lie.</param>
/// <param name="tokenizerJson">The tokenizer that goes with the model.</param>
internal sealed class CheckpointStore(IBlobStore store, string tokenizerJson) : ICheckpointStore
{
    public const string OptimizerFile = "optimizer.safetensors";
    public const string StateFile = "trainer_state.json";

    /// <inheritdoc/>
    public string Save(Replica replica, int keep) => SaveAsync(replica, keep).GetAwaiter().GetResult();

    /// <summary>Loads a checkpoint into a replica's model and optimizer state, and returns its position.</summary>
    /// <exception cref="BlobNotFoundException">There is no such checkpoint.</exception>
    /// <exception cref="IOException">A file is missing or changed; the message names it.</exception>
    /// <exception cref="InvalidDataException">A file does not belong to this model; the message names it.</exception>
    public static async Task<TrainerState> LoadAsync(IBlobStore store, string name, Replica replica, CancellationToken cancellationToken)
    {
        var folder = await store.GetVerifiedLocalDirectoryAsync(name, cancellationToken);
        var parameters = replica.Model.Parameters;
        ModelDirectory.LoadWeights(folder, replica.Model);
        parameters.UploadValues();
        using var optimizer = SafetensorsFile.Open(Path.Combine(folder, OptimizerFile));
        foreach (var (bufferName, buffer) in replica.Optimizer.StateNames.Zip(replica.OptimizerState))
        {
            foreach (var view in parameters.Views)
            {
                Read(view, $"{view.Name}.{bufferName}", buffer);
            }
        }

        var state = TrainerState.Parse(await File.ReadAllTextAsync(Path.Combine(folder, StateFile), cancellationToken), $"{name}/{StateFile}");
        return state.Step == ResourceName.ParseCheckpoint(name).Step
            ? state
            : throw new InvalidDataException($"{name}/{StateFile} is of step {state.Step}.");

        void Read(ParameterView view, string tensorName, float[] destination)
        {
            if (!optimizer.Tensors.TryGetValue(tensorName, out var tensor) || !tensor.Shape.SequenceEqual(view.Shape))
            {
                throw new InvalidDataException($"{name}/{OptimizerFile} has no '{tensorName}' of shape [{string.Join(", ", view.Shape)}].");
            }

            optimizer.Read(tensorName, destination.AsSpan(view.Offset, view.Length));
        }
    }

    private async Task<string> SaveAsync(Replica replica, int keep)
    {
        var state = replica.State;
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
        await ModelDirectory.WriteAsync(directory, replica.Model, tokenizerJson);
        await directory.WriteAsync(OptimizerFile, (stream, token) => Safetensors.WriteAsync(stream, OptimizerEntries(replica), null, token));
        await directory.WriteTextAsync(StateFile, state.ToJson());
        await directory.CommitAsync(properties);
        await PruneAsync(state, keep);
        return name;
    }

    private static List<SafetensorsEntry> OptimizerEntries(Replica replica) =>
    [
        .. from view in replica.Model.Parameters.Views
           from state in replica.Optimizer.StateNames.Zip(replica.OptimizerState)
           select new SafetensorsEntry(
               $"{view.Name}.{state.First}", view.Shape,
               (offset, destination) => state.Second.AsSpan(view.Offset + (int)offset, destination.Length).CopyTo(destination)),
    ];

    /// <summary>Removes older checkpoints, and what is left of broken attempts to write one, except the newest and the best.</summary>
    private async Task PruneAsync(TrainerState state, int keep)
    {
        try
        {
            var steps = new SortedDictionary<long, bool>();
            await foreach (var blob in store.ListAsync($"{state.Run}/checkpoints/"))
            {
                if (blob.Name.Split('/') is [_, _, _, var step, var file] && long.TryParse(step, out var number) && number <= state.Step)
                {
                    steps[number] = steps.GetValueOrDefault(number) || file == "manifest.json";
                }
            }

            var kept = steps.Where(s => s.Value).Select(s => s.Key).TakeLast(keep).Append(state.BestCheckpointStep).ToHashSet();
            foreach (var step in steps.Keys.Where(s => !kept.Contains(s)))
            {
                await store.DeleteDirectoryAsync(ResourceName.Checkpoint(state.Run, step));
            }
        }
        catch (IOException)
        {
            // The new checkpoint counts; what could not be removed is removed after the next one.
        }
    }
}
