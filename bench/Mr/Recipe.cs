namespace LlmPipeline.Bench.Mr;

/// <summary>
/// How a network is trained; chosen on a part of fold 0's training sentences (docs/log.md).
/// </summary>
internal sealed record Recipe
{
    public const string Architecture = "gpt2";
    public const int Layers = 2;
    public const int Heads = 4;
    public const int Width = 128;
    public const int Context = 64;
    public const int VocabularySize = 8192;
    public const int MicroBatchSize = 8;

    /// <summary>Peak learning rate.</summary>
    public required double LearningRate { get; init; }

    /// <summary>Passes over the sentences.</summary>
    public required int Epochs { get; init; }

    /// <summary>Sequences a step.</summary>
    public int BatchSize { get; init; } = 32;

    public double Dropout { get; init; } = 0.2;

    public double WeightDecay { get; init; } = 0.1;

    public static Recipe Pretraining { get; } = new() { LearningRate = 1e-3, Epochs = 1, BatchSize = 8, Dropout = 0 };

    /// <summary>On the sentences that a fold is trained on, without their labels, before it is fine-tuned (as ULMFiT does, Howard and Ruder 2018).</summary>
    public static Recipe Adapting { get; } = new() { LearningRate = 1e-3, Epochs = 1, BatchSize = 8, Dropout = 0.1 };

    public static Recipe FromScratch { get; } = new() { LearningRate = 1e-3, Epochs = 5, Dropout = 0.4 };

    public static Recipe FineTuning { get; } = new() { LearningRate = 1e-3, Epochs = 5 };
}
