namespace LlmPipeline.Bench.Mr;

/// <summary>
/// How a network is trained. A classifier's numbers were chosen on a part of fold 0's training sentences (docs/log.md), from new
/// weights and from word vectors; those of the language model were not.
/// </summary>
internal sealed record Recipe
{
    public const string Architecture = "lstm";
    public const int Layers = 1;
    public const int Width = 128;
    public const int Context = 64;
    public const int MicroBatchSize = 16;

    /// <summary>Peak learning rate.</summary>
    public required double LearningRate { get; init; }

    /// <summary>Passes over the sentences.</summary>
    public required int Epochs { get; init; }

    /// <summary>Sequences a step.</summary>
    public required int BatchSize { get; init; }

    public double Dropout { get; init; } = 0.2;

    public double WeightDecay { get; init; } = 0.1;

    /// <summary>On WikiText-2, as a language model.</summary>
    public static Recipe Pretraining { get; } = new() { LearningRate = 3e-3, Epochs = 1, BatchSize = 16 };

    /// <summary>On the sentences that a fold is trained on, without their labels, before it is fine-tuned (as ULMFiT does, Howard and Ruder 2018).</summary>
    public static Recipe Adapting { get; } = new() { LearningRate = 1e-3, Epochs = 1, BatchSize = 16 };

    /// <summary>A classifier, whatever it begins with.</summary>
    /// <param name="few">A tenth of the sentences.</param>
    public static Recipe Classifying(bool few) => few
        ? new() { LearningRate = 3e-3, Epochs = 12, BatchSize = 16, Dropout = 0.4 }
        : new() { LearningRate = 6e-3, Epochs = 4, BatchSize = 32, Dropout = 0.6 };
}
