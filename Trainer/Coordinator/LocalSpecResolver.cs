using LlmPipeline.Models;
using LlmPipeline.Runs.V1;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary><c>training.local</c> of a run.</summary>
internal static class LocalSpecResolver
{
    private const int MaxSteps = 500;
    private const int MaxShards = 64;

    // Of more shards, too few whole numbers would be left for each: 127 / 16 = 7.
    private const int MaxShardsInt8 = 16;

    /// <summary>Rounds and shards, which defaults of <c>training</c> depend on; its batch size is resolved.</summary>
    public static void ResolveShape(TrainingSpec training)
    {
        if (training.Local is not { } local)
        {
            return;
        }

        local.Steps = local.HasSteps ? local.Steps : 50;
        SpecCheck.InRange(local.Steps, 1, MaxSteps, "training.local.steps", "1 averages gradients in every step");
        local.OwnData = local.HasOwnData && local.OwnData;
        local.Shards = local.HasShards ? local.Shards : 2;
        SpecCheck.InRange(local.Shards, 2, MaxShards, "training.local.shards");
        SpecCheck.That(training.BatchSize % local.Shards == 0, "training.local.shards",
            $"is {local.Shards}, but must divide training.batch_size {training.BatchSize}; the nearest numbers that do are {SpecCheck.Divisors(training.BatchSize, local.Shards)}");
    }

    /// <summary>The default of an interval: the usual one, or the next multiple of a round's steps.</summary>
    public static long Interval(TrainingSpec training, long usual) =>
        training.Local is { } local ? (usual + local.Steps - 1) / local.Steps * local.Steps : usual;

    /// <summary>Fills in what is open and checks all of it, when the rest of <c>training</c> is resolved.</summary>
    /// <exception cref="Grpc.Core.RpcException">INVALID_ARGUMENT with a message that names key, range and remedy.</exception>
    public static void Resolve(TrainingSpec training)
    {
        if (training.Local is not { } local)
        {
            return;
        }

        local.OuterLearningRate = local.HasOuterLearningRate ? local.OuterLearningRate : 1;
        SpecCheck.Positive(local.OuterLearningRate, 10, "training.local.outer_learning_rate");
        local.OuterMomentum = local.HasOuterMomentum ? local.OuterMomentum : 0.7;
        SpecCheck.Share(local.OuterMomentum, "training.local.outer_momentum");
        local.ClipNorm = local.HasClipNorm ? local.ClipNorm : 0;
        SpecCheck.InRange(local.ClipNorm, 0, 1e6, "training.local.clip_norm", "0 switches clipping off");
        local.Wire = local.HasWire ? local.Wire : "fp32";
        SpecCheck.OneOf(local.Wire, ["fp32", "int16", "int8"], "training.local.wire");
        SpecCheck.That(local.Wire != "int8" || local.Shards <= MaxShardsInt8, "training.local.wire",
            $"is int8, but the sum of training.local.shards {local.Shards} such numbers does not fit into 8 bits; take int16, or at most {MaxShardsInt8} shards");
        local.OptimizerState = local.HasOptimizerState ? local.OptimizerState : local.OwnData ? "reset" : "average";
        SpecCheck.OneOf(local.OptimizerState, ["average", "reset"], "training.local.optimizer_state");
        SpecCheck.That(!local.OwnData || local.OptimizerState == "reset", "training.local.optimizer_state",
            $"is average, but with training.local.own_data only clipped outer gradients leave a worker; leave it out");
        CheckOthers(training, local);
    }

    /// <summary>Checks what <c>optimizer</c> and <c>training.local</c> do not have together.</summary>
    public static void Check(TrainingSpec training, OptimizerSpec optimizer) =>
        SpecCheck.That(training.Local is not { OptimizerState: "average" } local || local.Steps == 1 || !optimizer.Centered, "training.local.optimizer_state",
            $"is average, but a mean of the state of optimizer.centered is none; set it to reset, or optimizer.centered to false");

    private static void CheckOthers(TrainingSpec training, LocalSpec local)
    {
        SpecCheck.That((local.Steps == 1 && !local.OwnData) || (training.Exchange.Mode != "plain" && training.Exchange.Wire == "fp32"), "training.exchange",
            $"is set, but rounds of training.local are summed as whole numbers and sent as training.local.wire says; leave it out");
        var sequences = training.BatchSize / local.Shards;
        SpecCheck.That(sequences % training.MicroBatchSize == 0, "training.micro_batch_size",
            $"is {training.MicroBatchSize}, but must divide the {sequences} sequences of a shard (training.batch_size {training.BatchSize} / training.local.shards {local.Shards}); the nearest numbers that do are {SpecCheck.Divisors(sequences, Math.Min(sequences, training.MicroBatchSize))}");
        SpecCheck.That(training.MinWorkers <= local.Shards, "training.min_workers",
            $"is {training.MinWorkers}, but at most training.local.shards {local.Shards} workers can take part");
        SpecCheck.That(training.StartWorkers <= local.Shards, "training.start_workers",
            $"is {training.StartWorkers}, but at most training.local.shards {local.Shards} workers can take part");
        SpecCheck.That(training.ValidationInterval % local.Steps == 0 || training.ValidationInterval >= training.Steps, "training.validation_interval",
            $"is {training.ValidationInterval}, but must be a multiple of training.local.steps {local.Steps}: there is no common model within a round; leave it out");
        SpecCheck.That(training.CheckpointInterval % local.Steps == 0 || training.CheckpointInterval >= training.Steps, "training.checkpoint_interval",
            $"is {training.CheckpointInterval}, but must be a multiple of training.local.steps {local.Steps}: there is no common model within a round; leave it out");
        SpecCheck.That(training.Precision != Precisions.NameOf(Precision.Fp16) || (local.Steps == 1 && !local.OwnData), "training.precision",
            $"is fp16, but shards that are trained apart cannot agree on the scale of a loss; set it to bf16 or fp32, or training.local.steps to 1");
    }
}
