using System.Text.Json.Nodes;
using LlmPipeline.Models;
using LlmPipeline.Storage;

namespace LlmPipeline.Trainer.Worker;

/// <summary>
/// Checkpoints in storage: a model directory with <c>optimizer.safetensors</c> (<c>NAME.exp_avg</c>, <c>NAME.exp_avg_sq</c>)
/// and <c>trainer_state.json</c>.
/// </summary>
/// <param name="store">Where they lie.</param>
/// <param name="tokenizerJson">The tokenizer that goes with the model.</param>
internal sealed class CheckpointStore(IBlobStore store, string tokenizerJson) : ICheckpointStore
{
    public const string OptimizerFile = "optimizer.safetensors";
    public const string StateFile = "trainer_state.json";

    private const string FirstMoment = ".exp_avg";
    private const string SecondMoment = ".exp_avg_sq";

    /// <inheritdoc/>
    public string Save(Replica replica, int keep) => SaveAsync(replica, keep).GetAwaiter().GetResult();

    /// <summary>Loads a checkpoint into a replica's model and moments, and returns its position.</summary>
    /// <exception cref="BlobNotFoundException">There is no such checkpoint.</exception>
    /// <exception cref="IOException">A file is missing or changed; the message names it.</exception>
    /// <exception cref="InvalidDataException">A file does not belong to this model; the message names it.</exception>
    public static async Task<TrainerState> LoadAsync(IBlobStore store, string name, LanguageModel model, float[] firstMoment, float[] secondMoment, CancellationToken cancellationToken)
    {
        var folder = await store.GetVerifiedLocalDirectoryAsync(name, cancellationToken);
        ModelDirectory.LoadWeights(folder, model);
        model.Parameters.UploadValues();
        using var optimizer = SafetensorsFile.Open(Path.Combine(folder, OptimizerFile));
        foreach (var view in model.Parameters.Views)
        {
            Read(view, FirstMoment, firstMoment);
            Read(view, SecondMoment, secondMoment);
        }

        var state = TrainerState.Parse(await File.ReadAllTextAsync(Path.Combine(folder, StateFile), cancellationToken), $"{name}/{StateFile}");
        return state.Step == ResourceName.ParseCheckpoint(name).Step
            ? state
            : throw new InvalidDataException($"{name}/{StateFile} is of step {state.Step}.");

        void Read(ParameterView view, string suffix, float[] destination)
        {
            if (!optimizer.Tensors.TryGetValue(view.Name + suffix, out var tensor) || !tensor.Shape.SequenceEqual(view.Shape))
            {
                throw new InvalidDataException($"{name}/{OptimizerFile} has no '{view.Name}{suffix}' of shape [{string.Join(", ", view.Shape)}].");
            }

            optimizer.Read(view.Name + suffix, destination.AsSpan(view.Offset, view.Length));
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
        await directory.WriteAsync(OptimizerFile, (stream, token) => Safetensors.WriteAsync(stream, Moments(replica), null, token));
        await directory.WriteTextAsync(StateFile, state.ToJson());
        await directory.CommitAsync(properties);
        await PruneAsync(state, keep);
        return name;
    }

    private static List<SafetensorsEntry> Moments(Replica replica)
    {
        var entries = new List<SafetensorsEntry>();
        foreach (var view in replica.Model.Parameters.Views)
        {
            entries.Add(Entry(view, FirstMoment, replica.FirstMoment));
            entries.Add(Entry(view, SecondMoment, replica.SecondMoment));
        }

        return entries;

        static SafetensorsEntry Entry(ParameterView view, string suffix, float[] moment) => new(
            view.Name + suffix, view.Shape, (offset, destination) => moment.AsSpan(view.Offset + (int)offset, destination.Length).CopyTo(destination));
    }

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
