using LlmPipeline.Models;

namespace LlmPipeline.Trainer.Worker;

/// <summary>A replica's state after one step, in memory of its own: it can be written while the replica steps on.</summary>
/// <param name="Model">The network; only its sizes and layout are used.</param>
/// <param name="State">The position.</param>
/// <param name="Values">Parameters, in the layout of the network.</param>
/// <param name="Optimizer">Names of the optimizer's buffers, and the buffers, laid out likewise.</param>
internal sealed record ReplicaSnapshot(LanguageModel Model, TrainerState State, float[] Values, IReadOnlyList<(string Name, float[] Buffer)> Optimizer);
