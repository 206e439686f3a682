namespace LlmPipeline.Trainer.Worker;

/// <summary>What a run is trained and validated on, in batches. Used by one thread.</summary>
internal interface ITrainingData
{
    /// <summary>Input ids of the batch that was read last, row by row.</summary>
    ReadOnlySpan<int> Inputs { get; }

    /// <summary>Targets of the batch that was read last, row by row: ids or classes, or <see cref="Models.LanguageModel.IgnoredTarget"/>.</summary>
    ReadOnlySpan<int> Targets { get; }

    /// <summary>Sequences of the batch that was read last.</summary>
    int Rows { get; }

    /// <summary>Targets of a step that are not ignored, over all workers.</summary>
    long PredictionsPerStep { get; }

    /// <summary>Input ids of a step, over all workers, without what sequences are padded with.</summary>
    long TokensOfStep(long step);

    /// <summary>Sequences of a validation.</summary>
    int ValidationSequences { get; }

    /// <summary>Batches of a validation, over all workers.</summary>
    int ValidationBatches { get; }

    /// <summary>Targets of a validation that are not ignored.</summary>
    long ValidationTokens { get; }

    /// <summary>Reads a micro-batch of a step.</summary>
    /// <param name="step">From 1 on.</param>
    /// <param name="microBatch">From 0 on.</param>
    void ReadMicroBatch(long step, int microBatch);

    /// <summary>Reads a validation batch.</summary>
    void ReadValidationBatch(int batch);

    /// <summary>The same, cut by other settings.</summary>
    ITrainingData With(TrainingSettings changed);
}
