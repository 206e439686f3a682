using LlmPipeline.Runs.V1;

namespace LlmPipeline.Trainer.Worker;

/// <summary>What outer gradients are while they are sent.</summary>
internal enum OuterWire
{
    /// <summary>Nothing is lost.</summary>
    Fp32,

    /// <summary>Whole numbers whose sum has at most 16 bits, times a scale for each block.</summary>
    Int16,

    /// <summary>Whole numbers whose sum has at most 8 bits, times a scale for each block.</summary>
    Int8,
}

/// <summary>Low-communication training, see <see cref="LocalSpec"/>.</summary>
internal sealed record LocalSettings
{
    /// <summary>Steps of a round.</summary>
    public required int Steps { get; init; }

    /// <summary>Parts of the batch that are trained apart.</summary>
    public required int Shards { get; init; }

    public required double OuterLearningRate { get; init; }

    public double ClipNorm { get; init; }

    public OuterWire Wire { get; init; }

    /// <summary>A round begins without optimizer state; else with the mean over the shards.</summary>
    public bool ResetsState { get; init; }

    /// <summary>Each member is a shard and has data of its own.</summary>
    public bool OwnData { get; init; }

    /// <summary>The settings of a resolved spec; null for a synchronous run.</summary>
    public static LocalSettings? From(TrainingSpec training) => training.Local is { } local && (local.Steps > 1 || local.OwnData) ? new LocalSettings
    {
        Steps = local.Steps,
        Shards = local.Shards,
        OuterLearningRate = local.OuterLearningRate,
        ClipNorm = local.ClipNorm,
        Wire = local.Wire switch { "int8" => OuterWire.Int8, "int16" => OuterWire.Int16, _ => OuterWire.Fp32 },
        ResetsState = local.OptimizerState == "reset",
        OwnData = local.OwnData,
    }
    : null;

    /// <summary>The contiguous range of shards that a rank trains.</summary>
    public (int Begin, int End) ShardsOf(int rank, int size) => OwnData ? (rank, rank + 1)
        : ((int)((long)rank * Shards / size), (int)((long)(rank + 1) * Shards / size));
}
