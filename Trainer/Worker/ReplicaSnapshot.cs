using LlmPipeline.Models;

namespace LlmPipeline.Trainer.Worker;

/// <summary>
/// A replica's state after one step. In memory of its own it can be written while the replica steps on; the last one of a run is
/// the replica itself.
/// </summary>
/// <param name="Model">The network; only its sizes and layout are used.</param>
/// <param name="State">The position.</param>
/// <param name="Values">Trainable parameters, in the layout of the network; null for its present ones.</param>
/// <param name="Optimizer">Names of the optimizer's buffers, and the buffers, laid out likewise.</param>
/// <param name="History">Of the newest steps.</param>
internal sealed record ReplicaSnapshot(
    LanguageModel Model, TrainerState State, float[]? Values, IReadOnlyList<(string Name, float[] Buffer)> Optimizer, StepHistory History);
