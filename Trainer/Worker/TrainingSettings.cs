using LlmPipeline.Models;
using LlmPipeline.Runs.V1;
using LlmPipeline.Trainer.Collectives;
using LlmPipeline.Trainer.Optimizers;

namespace LlmPipeline.Trainer.Worker;

/// <summary>The numbers of a resolved <see cref="RunSpec"/> that training needs, checked.</summary>
internal sealed record TrainingSettings
{
    public required long Seed { get; init; }

    public required int Context { get; init; }

    public required long Steps { get; init; }

    /// <summary>Sequences of a step, over all workers.</summary>
    public required int BatchSize { get; init; }

    /// <summary>Sequences of a micro-batch.</summary>
    public required int MicroBatchSize { get; init; }

    public required long ValidationInterval { get; init; }

    /// <summary>0 takes all.</summary>
    public required int ValidationSequences { get; init; }

    public required long CheckpointInterval { get; init; }

    public required int KeepCheckpoints { get; init; }

    /// <summary>0 sets no limit.</summary>
    public required double MaxSeconds { get; init; }

    /// <summary>What matrix products are computed in; null for what a trial finds faster.</summary>
    public required Precision? Precision { get; init; }

    /// <summary>How gradients are summed; null where the devices of the workers decide.</summary>
    public required SumMode? SumMode { get; init; }

    /// <summary>What gradients are sent as.</summary>
    public required WireFormat Wire { get; init; }

    /// <summary>0 switches clipping off.</summary>
    public required double ClipNorm { get; init; }

    /// <summary>Share of a target's probability that is spread over all outputs.</summary>
    public required double LabelSmoothing { get; init; }

    /// <summary>Validations without improvement that end training; 0 switches early stopping off.</summary>
    public required int Patience { get; init; }

    /// <summary>What counts as an improvement of the validation loss, in nats per token.</summary>
    public required double MinImprovement { get; init; }

    public required LearningRateSchedule Schedule { get; init; }

    /// <summary>Low-communication training; null where gradients are averaged in every step.</summary>
    public LocalSettings? Local { get; init; }

    /// <summary>What an anomaly is, and what is done about it.</summary>
    public GuardOptions Guard { get; init; } = new();

    /// <summary>Slower workers get fewer micro-batches.</summary>
    public bool Rebalance { get; init; }

    /// <summary>Micro-batches of a step, over all workers.</summary>
    public int MicroBatches => BatchSize / MicroBatchSize;

    /// <summary>Sequences of a step that are computed on the same parameters; a micro-batch divides them.</summary>
    public int SequencesTogether => BatchSize / (Local?.Shards ?? 1);

    /// <summary>Micro-batches among them.</summary>
    public int MicroBatchesTogether => SequencesTogether / MicroBatchSize;

    /// <summary>Predicted tokens of a step, over all workers.</summary>
    public long TokensPerStep => (long)BatchSize * Context;

    /// <summary>Takes the settings out of a resolved spec.</summary>
    /// <exception cref="FatalTrainingException">A number is missing or impossible.</exception>
    public static TrainingSettings From(RunSpec spec)
    {
        var training = spec.Training;
        var optimizer = spec.Optimizer;
        Require(training is not null && optimizer is not null && spec.Model is not null, "model, optimizer and training have to be set");
        Require(training!.Steps > 0, $"training.steps is {training.Steps}, it has to be positive");
        Require(training.MicroBatchSize > 0 && training.BatchSize > 0 && training.BatchSize % training.MicroBatchSize == 0,
            $"training.micro_batch_size {training.MicroBatchSize} has to divide training.batch_size {training.BatchSize}");
        return new TrainingSettings
        {
            Seed = spec.Seed,
            Context = spec.Model!.Context,
            Steps = training.Steps,
            BatchSize = training.BatchSize,
            MicroBatchSize = training.MicroBatchSize,
            ValidationInterval = Math.Max(1, training.ValidationInterval),
            ValidationSequences = training.ValidationSequences,
            CheckpointInterval = Math.Max(1, training.CheckpointInterval),
            KeepCheckpoints = Math.Max(1, training.KeepCheckpoints),
            MaxSeconds = training.MaxSeconds,
            Precision = training.Precision == "auto" ? null : Precisions.Parse(training.Precision) ?? Models.Precision.Fp32,
            SumMode = training.Exchange?.Mode switch { "exact" => Collectives.SumMode.Exact, "plain" => Collectives.SumMode.Plain, _ => null },
            Wire = training.Exchange?.Wire == "bf16" ? WireFormat.Bf16 : WireFormat.Fp32,
            ClipNorm = optimizer!.ClipNorm,
            LabelSmoothing = training.LabelSmoothing,
            Patience = training.Patience,
            MinImprovement = training.MinImprovement,
            Schedule = LearningRateSchedule.Of(spec),
            Local = LocalSettings.From(training),
            Guard = GuardOf(training),
            Rebalance = training.Rebalance,
        };
    }

    /// <summary>The network of a resolved spec.</summary>
    /// <exception cref="FatalTrainingException">It is to predict masked tokens, and there is no mask token.</exception>
    public static ModelConfig ModelOf(RunSpec spec, int vocabularySize, int endOfTextId, int? maskTokenId = null) => new()
    {
        Architecture = spec.Model.Architecture,
        VocabularySize = vocabularySize,
        Layers = spec.Model.Layers,
        Heads = spec.Model.Heads,
        Width = spec.Model.Width,
        Context = spec.Model.Context,
        Dropout = spec.Model.Dropout,
        KvHeads = spec.Model.KvHeads,
        FeedForwardWidth = spec.Model.FeedForwardWidth,
        RopeTheta = spec.Model.HasRopeTheta ? spec.Model.RopeTheta : 10_000,
        Tied = !spec.Model.HasTied || spec.Model.Tied,
        Bias = !spec.Model.HasBias || spec.Model.Bias,
        EmbeddingWidth = spec.Model.HasEmbeddingWidth && spec.Model.EmbeddingWidth != spec.Model.Width ? spec.Model.EmbeddingWidth : null,
        VariationalDropout = spec.Model.VariationalDropout,
        RecurrentDropout = spec.Model.RecurrentDropout,
        Window = spec.Model.Window,
        DirectConnections = spec.Model.DirectConnections,
        Pooling = PoolingOf(spec),
        EndOfTextId = endOfTextId,
        Objective = IsMasked(spec) ? Objective.Masked : Objective.Causal,
        MaskTokenId = !IsMasked(spec) ? null : maskTokenId ?? throw new FatalTrainingException(ServiceDefaults.ErrorReasons.InvalidSpec,
            $"model.objective is masked, but the tokenizer of the dataset has no special token {Text.SpecialTokens.Mask}. Add it to dataset.tokenizer.special_tokens and make the dataset again."),
    };

    /// <summary>What the classification head of a resolved spec's network reads, where it has one.</summary>
    public static Pooling PoolingOf(RunSpec spec) => spec.Model.HasPooling ? Poolings.Of(spec.Model.Pooling)!.Value : Pooling.Last;

    private static GuardOptions GuardOf(TrainingSpec training)
    {
        var defaults = new GuardOptions();
        return new GuardOptions
        {
            Policy = training.OnAnomaly switch { "rollback" => AnomalyPolicy.Rollback, "stop" => AnomalyPolicy.Stop, _ => AnomalyPolicy.Skip },
            MaxAnomalies = training.HasMaxAnomalies ? training.MaxAnomalies : defaults.MaxAnomalies,
            Window = training.HasAnomalyWindow ? training.AnomalyWindow : defaults.Window,
            SpikeDeviation = training.HasSpikeDeviation ? training.SpikeDeviation : defaults.SpikeDeviation,
            MaxNormFactor = training.HasMaxNormFactor ? training.MaxNormFactor : defaults.MaxNormFactor,
        };
    }

    private static bool IsMasked(RunSpec spec) => spec.Model.Objective == "masked";

    private static void Require(bool condition, string message)
    {
        if (!condition)
        {
            throw new FatalTrainingException(ServiceDefaults.ErrorReasons.InvalidSpec, $"The run's spec cannot be trained: {message}.");
        }
    }
}

/// <summary>The run cannot go on at all, on any worker.</summary>
/// <param name="reason">One of <see cref="ServiceDefaults.ErrorReasons"/>.</param>
/// <param name="message">One sentence for a person: the thing, the place, the remedy.</param>
/// <param name="inner">The cause.</param>
internal sealed class FatalTrainingException(string reason, string message, Exception? inner = null) : Exception(message, inner)
{
    /// <summary>One of <see cref="ServiceDefaults.ErrorReasons"/>.</summary>
    public string Reason { get; } = reason;
}
