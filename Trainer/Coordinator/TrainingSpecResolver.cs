using LlmPipeline.Models;
using LlmPipeline.Runs.V1;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary><c>training</c> of a run.</summary>
internal static class TrainingSpecResolver
{
    /// <summary>Steps are written with 8 digits in names.</summary>
    private const long MaxSteps = 99_999_999;

    private const int MaxBatch = 1 << 20;

    private const int MaxSamplePrompts = 16;

    /// <summary>Fills in what is open and checks all of it.</summary>
    /// <exception cref="Grpc.Core.RpcException">INVALID_ARGUMENT with a message that names key, range and remedy.</exception>
    /// <param name="training">As it was sent.</param>
    /// <param name="architecture">Of the model.</param>
    public static TrainingSpec Resolve(TrainingSpec training, string architecture)
    {
        training.Steps = training.HasSteps ? training.Steps : 1000;
        SpecCheck.InRange(training.Steps, 1, MaxSteps, "training.steps");
        training.BatchSize = training.HasBatchSize ? training.BatchSize : 32;
        SpecCheck.InRange(training.BatchSize, 1, MaxBatch, "training.batch_size");
        LocalSpecResolver.ResolveShape(training);
        training.MicroBatchSize = training.HasMicroBatchSize ? training.MicroBatchSize
            : training.Local is { } local ? training.BatchSize / local.Shards
            : training.BatchSize % 4 == 0 ? training.BatchSize / 4 : 1;
        SpecCheck.InRange(training.MicroBatchSize, 1, training.BatchSize, "training.micro_batch_size",
            "the upper end is training.batch_size");
        SpecCheck.That(training.BatchSize % training.MicroBatchSize == 0, "training.micro_batch_size",
            $"is {training.MicroBatchSize}, but must divide training.batch_size {training.BatchSize}; the nearest numbers that do are {SpecCheck.Divisors(training.BatchSize, training.MicroBatchSize)}");
        training.ValidationInterval = training.HasValidationInterval ? training.ValidationInterval : LocalSpecResolver.Interval(training, 250);
        SpecCheck.InRange(training.ValidationInterval, 1, MaxSteps, "training.validation_interval", "a number above training.steps validates at the end only");
        training.ValidationSequences = training.HasValidationSequences ? training.ValidationSequences : 200;
        SpecCheck.InRange(training.ValidationSequences, 0, int.MaxValue, "training.validation_sequences", "0 takes all of the validation split");
        training.LabelSmoothing = training.HasLabelSmoothing ? training.LabelSmoothing : 0;
        SpecCheck.Share(training.LabelSmoothing, "training.label_smoothing");
        training.Patience = training.HasPatience ? training.Patience : 0;
        SpecCheck.InRange(training.Patience, 0, 1_000_000, "training.patience", "0 switches early stopping off");
        training.MinImprovement = training.HasMinImprovement ? training.MinImprovement : 0;
        SpecCheck.InRange(training.MinImprovement, 0, 1e6, "training.min_improvement");
        SpecCheck.That(training.MinImprovement == 0 || training.Patience > 0, "training.min_improvement",
            $"is {training.MinImprovement}, but training.patience is 0, so that training is never stopped early; set training.patience above 0");
        training.CheckpointInterval = training.HasCheckpointInterval ? training.CheckpointInterval : training.Patience > 0 ? training.ValidationInterval : LocalSpecResolver.Interval(training, 250);
        SpecCheck.InRange(training.CheckpointInterval, 1, MaxSteps, "training.checkpoint_interval", "a number above training.steps writes one at the end only");
        SpecCheck.That(training.Patience == 0 || training.ValidationInterval % training.CheckpointInterval == 0, "training.checkpoint_interval",
            $"is {training.CheckpointInterval}, but must divide training.validation_interval {training.ValidationInterval} when training.patience is set, so that the best model is kept; leave it out");
        training.KeepCheckpoints = training.HasKeepCheckpoints ? training.KeepCheckpoints : 2;
        SpecCheck.InRange(training.KeepCheckpoints, 1, 1_000_000, "training.keep_checkpoints");
        training.MaxSeconds = training.HasMaxSeconds ? training.MaxSeconds : 0;
        SpecCheck.InRange(training.MaxSeconds, 0, 1e9, "training.max_seconds", "0 sets no limit");
        training.MinWorkers = training.HasMinWorkers ? training.MinWorkers : 1;
        var microBatches = training.BatchSize / training.MicroBatchSize;
        SpecCheck.That(training.MinWorkers >= 1 && training.MinWorkers <= microBatches, "training.min_workers",
            $"is {training.MinWorkers}, but must be from 1 to {microBatches}, the micro-batches of a step (training.batch_size {training.BatchSize} / training.micro_batch_size {training.MicroBatchSize}); a smaller micro_batch_size allows more");
        training.MaxWorkers = training.HasMaxWorkers ? training.MaxWorkers : microBatches;
        SpecCheck.That(training.MaxWorkers >= training.MinWorkers && training.MaxWorkers <= microBatches, "training.max_workers",
            $"is {training.MaxWorkers}, but must be from training.min_workers {training.MinWorkers} to {microBatches}, the micro-batches of a step; leave it out to let as many take part as there are micro-batches");
        training.StartWorkers = training.HasStartWorkers ? training.StartWorkers : training.MinWorkers;
        SpecCheck.That(training.StartWorkers >= training.MinWorkers && training.StartWorkers <= training.MaxWorkers, "training.start_workers",
            $"is {training.StartWorkers}, but must be from training.min_workers {training.MinWorkers} to training.max_workers {training.MaxWorkers}");
        training.Rebalance = training.HasRebalance ? training.Rebalance : training.Exchange?.Mode != "plain";
        training.Precision = training.HasPrecision ? training.Precision : Precisions.NameOf(Precision.Fp32);
        SpecCheck.OneOf(training.Precision, ["auto", .. Precisions.Names], "training.precision");
        SpecCheck.That(Precisions.Parse(training.Precision) is not { } precision || Precisions.IsSupported(precision, architecture), "training.precision",
            $"is {training.Precision}, but {architecture} networks compute in fp32; set it to fp32 or auto");
        ResolveExchange(training);
        LocalSpecResolver.Resolve(training);
        ResolveGuards(training);
        // What a model writes may repeat data that no worker shows.
        training.SampleTokens = training.HasSampleTokens ? training.SampleTokens : training.Local is { OwnData: true } ? 0 : 64;
        SpecCheck.InRange(training.SampleTokens, 0, 4096, "training.sample_tokens", "0 writes no samples");
        SpecCheck.That(training.SamplePrompts.Count <= MaxSamplePrompts, "training.sample_prompts", $"has {training.SamplePrompts.Count} texts, but may have {MaxSamplePrompts}");
        return training;
    }

    // The mode stays open where it is: the devices of the workers decide.
    private static void ResolveExchange(TrainingSpec training)
    {
        training.Exchange ??= new ExchangeSpec();
        if (training.Exchange.HasMode)
        {
            SpecCheck.OneOf(training.Exchange.Mode, ["exact", "plain"], "training.exchange.mode");
        }

        training.Exchange.Wire = training.Exchange.HasWire ? training.Exchange.Wire : "fp32";
        SpecCheck.OneOf(training.Exchange.Wire, ["fp32", "bf16"], "training.exchange.wire");
    }

    private static void ResolveGuards(TrainingSpec training)
    {
        training.OnAnomaly = training.HasOnAnomaly ? training.OnAnomaly : "skip";
        SpecCheck.OneOf(training.OnAnomaly, ["skip", "rollback", "stop"], "training.on_anomaly");
        training.MaxAnomalies = training.HasMaxAnomalies ? training.MaxAnomalies : 5;
        SpecCheck.InRange(training.MaxAnomalies, 0, 1000, "training.max_anomalies", "0 lets the run fail at the first");
        training.AnomalyWindow = training.HasAnomalyWindow ? training.AnomalyWindow : 500;
        SpecCheck.InRange(training.AnomalyWindow, 1, 1_000_000, "training.anomaly_window");
        training.SpikeDeviation = training.HasSpikeDeviation ? training.SpikeDeviation : 10;
        SpecCheck.InRange(training.SpikeDeviation, 0, 1e9, "training.spike_deviation", "0 switches the check off");
        training.MaxNormFactor = training.HasMaxNormFactor ? training.MaxNormFactor : 1000;
        SpecCheck.InRange(training.MaxNormFactor, 0, 1e12, "training.max_norm_factor", "0 switches the check off");
        SpecCheck.That(training.MaxNormFactor == 0 || training.MaxNormFactor > 1, "training.max_norm_factor",
            $"is {training.MaxNormFactor}, but must be 0, which switches the check off, or above 1");
    }
}
