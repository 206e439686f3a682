using LlmPipeline.Models;

namespace LlmPipeline.Bench.Mr;

/// <summary>
/// How a network is trained. The numbers for sentences were chosen on folds 1 to 3, without fold 0 (docs/log.md), and are
/// those that suit new weights best.
/// </summary>
internal sealed record Recipe
{
    public const string Architecture = "lstm";
    public const int Layers = 1;
    public const int Width = 128;
    public const int Context = 64;
    public const int MicroBatchSize = 16;
    public const Pooling Pooling = Models.Pooling.Concat;

    /// <summary>One of so many reviews is not learned from.</summary>
    public const int HeldOutReviews = 50;

    /// <summary>Peak learning rate.</summary>
    public required double LearningRate { get; init; }

    /// <summary>Passes over the sentences.</summary>
    public required int Epochs { get; init; }

    /// <summary>Sequences a step.</summary>
    public required int BatchSize { get; init; }

    public double Dropout { get; init; } = 0.2;

    public double WeightDecay { get; init; } = 0.1;

    /// <summary>On film reviews.</summary>
    public static Recipe Pretraining { get; } = new() { LearningRate = 3e-3, Epochs = 1, BatchSize = 64, Dropout = 0.4 };

    /// <summary>On sentences, whatever a network begins with.</summary>
    /// <param name="few">A tenth of them.</param>
    public static Recipe Classifying(bool few) => few
        ? new() { LearningRate = 3e-3, Epochs = 12, BatchSize = 16, Dropout = 0.4 }
        : new() { LearningRate = 6e-3, Epochs = 4, BatchSize = 32, Dropout = 0.6 };
}
