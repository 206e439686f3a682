using LlmPipeline.Models;
using LlmPipeline.Text;

namespace LlmPipeline.Trainer.Worker;

/// <summary>A worker's own text to train on, and the run's dataset to validate on. Its steps have the sequences of one shard.</summary>
/// <param name="own">The worker's stream.</param>
/// <param name="validation">The stream to validate on; null when the dataset has none.</param>
/// <param name="settings">Those of the run.</param>
/// <param name="masking">See <see cref="TrainingData"/>.</param>
internal sealed class OwnData(TokenSplit own, TokenSplit? validation, TrainingSettings settings, Masking? masking = null) : ITrainingData
{
    private readonly TrainingData _data = new(own, validation, settings with { BatchSize = settings.SequencesTogether, Local = null }, masking);

    /// <summary>Tokens of the worker's own text.</summary>
    public long TokenCount => own.TokenCount;

    /// <inheritdoc/>
    public ReadOnlySpan<int> Inputs => _data.Inputs;

    /// <inheritdoc/>
    public ReadOnlySpan<int> Targets => _data.Targets;

    /// <inheritdoc/>
    public int Rows => _data.Rows;

    /// <inheritdoc/>
    public long PredictionsPerStep => _data.PredictionsPerStep;

    /// <inheritdoc/>
    public long TokensOfStep(long step) => _data.TokensOfStep(step);

    /// <inheritdoc/>
    public int ValidationSequences => _data.ValidationSequences;

    /// <inheritdoc/>
    public int ValidationBatches => _data.ValidationBatches;

    /// <inheritdoc/>
    public long ValidationTokens => _data.ValidationTokens;

    /// <inheritdoc/>
    public void ReadMicroBatch(long step, int microBatch) => _data.ReadMicroBatch(step, microBatch);

    /// <inheritdoc/>
    public void ReadValidationBatch(int batch) => _data.ReadValidationBatch(batch);

    /// <inheritdoc/>
    public ITrainingData With(TrainingSettings changed) => new OwnData(own, validation, changed, masking);
}
