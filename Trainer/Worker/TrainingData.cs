using LlmPipeline.Models;
using LlmPipeline.Text;

namespace LlmPipeline.Trainer.Worker;

/// <summary>Cuts micro-batches and validation batches out of the token streams. Used by one thread.</summary>
/// <param name="train">The stream to train on.</param>
/// <param name="validation">The stream to validate on; null when the dataset has none.</param>
/// <param name="settings">Sizes and seed.</param>
/// <param name="masking">What is masked and predicted; null where the next token is.</param>
internal sealed class TrainingData(TokenSplit train, TokenSplit? validation, TrainingSettings settings, Masking? masking = null) : ITrainingData
{
    private readonly SampleOrder _order = new(train.TokenCount, settings.Context, settings.Seed);
    private readonly int[] _ids = new int[settings.Context + 1];
    private readonly int[] _inputs = new int[settings.MicroBatchSize * settings.Context];
    private readonly int[] _targets = new int[settings.MicroBatchSize * settings.Context];

    /// <summary>Input ids of the batch that was read last, row by row.</summary>
    public ReadOnlySpan<int> Inputs => _inputs.AsSpan(0, Rows * Columns);

    /// <summary>Target ids of the batch that was read last, row by row.</summary>
    public ReadOnlySpan<int> Targets => _targets.AsSpan(0, Rows * Columns);

    /// <summary>Sequences of the batch that was read last.</summary>
    public int Rows { get; private set; }

    /// <summary>Tokens a sequence of the batch that was read last.</summary>
    public int Columns { get; private set; }

    /// <summary>Sequences of a validation.</summary>
    public int ValidationSequences { get; } = CountSequences(validation, settings);

    /// <summary>Batches of a validation, over all workers.</summary>
    public int ValidationBatches => (ValidationSequences + settings.MicroBatchSize - 1) / settings.MicroBatchSize;

    /// <summary>Predicted tokens of a validation.</summary>
    public long ValidationTokens => (long)ValidationSequences * PredictionsOf(ValidationContext);

    /// <inheritdoc/>
    public long TokensOfStep(long step) => settings.TokensPerStep;

    /// <inheritdoc/>
    public long PredictionsPerStep => (long)settings.BatchSize * PredictionsOf(settings.Context);

    /// <inheritdoc/>
    public ITrainingData With(TrainingSettings changed) => new TrainingData(train, validation, changed, masking);

    private int ValidationContext => (int)Math.Min(settings.Context, (validation?.TokenCount ?? 0) - 1);

    /// <summary>Reads micro-batch <paramref name="microBatch"/> of a step.</summary>
    public void ReadMicroBatch(long step, int microBatch)
    {
        var first = ((step - 1) * settings.BatchSize) + ((long)microBatch * settings.MicroBatchSize);
        (Rows, Columns) = (settings.MicroBatchSize, settings.Context);
        for (var row = 0; row < Rows; row++)
        {
            ReadRow(train, _order.PositionOf(first + row), row, Seeds.Derive(settings.Seed, "mask", first + row));
        }
    }

    /// <summary>Reads a validation batch: windows that do not overlap, evenly spread over the stream.</summary>
    public void ReadValidationBatch(int batch)
    {
        var windows = Math.Max(1, (validation!.TokenCount - 1) / settings.Context);
        var first = batch * settings.MicroBatchSize;
        (Rows, Columns) = (Math.Min(settings.MicroBatchSize, ValidationSequences - first), ValidationContext);
        for (var row = 0; row < Rows; row++)
        {
            ReadRow(validation, (first + row) * windows / ValidationSequences * settings.Context, row, Masking.MeasuringSeed(first + row));
        }
    }

    private int PredictionsOf(int length) => masking is null ? length : Masking.CountOf(length);

    private void ReadRow(TokenSplit split, long position, int row, ulong maskSeed)
    {
        var ids = _ids.AsSpan(0, Columns + 1);
        split.Read(position, ids);
        if (masking is not null)
        {
            masking.Apply(ids[..^1], maskSeed, _inputs.AsSpan(row * Columns, Columns), _targets.AsSpan(row * Columns, Columns));
            return;
        }

        ids[..^1].CopyTo(_inputs.AsSpan(row * Columns));
        ids[1..].CopyTo(_targets.AsSpan(row * Columns));
    }

    private static int CountSequences(TokenSplit? validation, TrainingSettings settings)
    {
        if (validation is null || validation.TokenCount < 2)
        {
            return 0;
        }

        var windows = Math.Max(1, (validation.TokenCount - 1) / settings.Context);
        return (int)Math.Min(int.MaxValue / 4, settings.ValidationSequences == 0 ? windows : Math.Min(windows, settings.ValidationSequences));
    }
}
