using System.Diagnostics;
using System.Text.Json.Nodes;
using Google.Protobuf.WellKnownTypes;
using LlmPipeline.Models;
using LlmPipeline.Runs.V1;
using LlmPipeline.Storage;
using LlmPipeline.Text.NGrams;
using LlmPipeline.Workers.V1;

namespace LlmPipeline.Trainer.Worker;

/// <summary>
/// Trains an n-gram model on one worker: counts the training split, measures the validation split, writes the only checkpoint.
/// To the coordinator it is a run of one step. It holds no state that could be copied: a worker that takes over counts again.
/// </summary>
internal sealed class NgramRunner(IBlobStore store, IProgressSink progress, TrainerMetrics metrics, TrainingTrace trace)
{
    private const int Step = 1;

    /// <summary>Whether a plan is of an n-gram model.</summary>
    public static bool Trains(EpochPlan plan) => Trains(plan.Spec);

    /// <inheritdoc cref="Trains(EpochPlan)"/>
    public static bool Trains(RunSpec? spec) => spec?.Model?.Architecture == NgramTokenModel.Architecture;

    /// <summary>Trains until the checkpoint is committed, the run is cancelled, or the epoch is left.</summary>
    /// <exception cref="OperationCanceledException">The process exits.</exception>
    public LoopOutcome Run(EpochPlan plan, TrainingDataset dataset, ILoopControl control, CancellationToken cancellationToken)
    {
        metrics.EpochStarted(1);
        if (plan.Checkpoint.Length > 0)
        {
            // The model is there; only the report of it was lost.
            Tell(plan.Checkpoint, PropertiesOf(plan.Checkpoint), dataset);
            return LoopOutcome.Finished;
        }

        var start = Stopwatch.GetTimestamp();
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        try
        {
            var model = Train(plan, dataset, Report(0, 0.8), stop.Token);
            var loss = Validate(model.Ngrams, dataset, Report(0.8, 1), stop.Token);
            var properties = new JsonObject
            {
                ["run"] = plan.Run,
                ["step"] = Step,
                ["token_count"] = dataset.Train.TokenCount,
                ["train_seconds"] = Stopwatch.GetElapsedTime(start).TotalSeconds,
                ["validation_loss"] = loss,
            };
            Tell(SaveAsync(plan.Run, model, dataset, properties, stop.Token).GetAwaiter().GetResult(), properties, dataset);
            return LoopOutcome.Finished;
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            if (control.StopRequested)
            {
                progress.Finished(Stopwatch.GetElapsedTime(start).TotalSeconds);
                return LoopOutcome.Finished;
            }

            return LoopOutcome.Left;
        }

        Action<double> Report(double from, double to) => share =>
        {
            progress.Share(from + ((to - from) * share));
            if (control.StopRequested || control.LeaveRequested)
            {
                stop.Cancel();
            }
        };
    }

    private NgramTokenModel Train(EpochPlan plan, TrainingDataset dataset, Action<double> report, CancellationToken cancellationToken)
    {
        using var activity = trace.Start("ngram train");
        var spec = plan.Spec.Model.Ngram;
        var options = new NgramOptions { Order = spec.Order, Smoothing = NgramOptions.ParseSmoothing(spec.Smoothing), K = spec.K };
        var model = NgramModel.Train(dataset.Train, dataset.VocabularySize, dataset.EndOfTextId, options, report, cancellationToken);
        activity?.SetTag("order", options.Order).SetTag("smoothing", options.SmoothingName).SetTag("ngrams", model.Counts.NgramCount);
        return new NgramTokenModel(model, dataset.Fingerprint);
    }

    /// <summary>Nats per token over the whole split; null when there is nothing to predict, or a token has probability 0.</summary>
    private double? Validate(NgramModel model, TrainingDataset dataset, Action<double> report, CancellationToken cancellationToken)
    {
        if (dataset.Validation is not { TokenCount: > 1 } validation)
        {
            return null;
        }

        using var activity = trace.Start("validate");
        var measured = NgramMeasurement.Of(model, validation, progress: report, cancellationToken: cancellationToken);
        activity?.SetTag("loss", measured.Loss).SetTag("impossible_tokens", measured.ImpossibleCount);
        if (measured.ImpossibleCount > 0)
        {
            return null;
        }

        metrics.Validated(measured.Loss);
        return measured.Loss;
    }

    private async Task<string> SaveAsync(string run, NgramTokenModel model, TrainingDataset dataset, JsonObject properties, CancellationToken cancellationToken)
    {
        using var activity = trace.Start("checkpoint");
        var start = Stopwatch.GetTimestamp();
        var name = ResourceName.Checkpoint(run, Step);
        activity?.SetTag("checkpoint", name);
        await store.DeleteDirectoryAsync(name, cancellationToken);
        var directory = store.CreateDirectory(name);
        await ModelDirectory.WriteAsync(directory, model, dataset.TokenizerJson, cancellationToken: cancellationToken);
        await directory.CommitAsync(properties, cancellationToken: cancellationToken);
        metrics.CheckpointWritten(Stopwatch.GetElapsedTime(start));
        return name;
    }

    private JsonObject PropertiesOf(string checkpoint) =>
        store.TryReadManifestAsync(checkpoint).GetAwaiter().GetResult()?.Properties ?? throw new BlobNotFoundException(checkpoint);

    /// <summary>Tells the coordinator of the step, its checkpoint, and that training is over.</summary>
    private void Tell(string checkpoint, JsonObject properties, TrainingDataset dataset)
    {
        var seconds = Number("train_seconds") ?? 0;
        var loss = Number("validation_loss");
        var step = new StepMetrics
        {
            Step = Step,
            // Before the first count nothing is known: every id is as likely as the other.
            TrainLoss = Math.Log(dataset.VocabularySize),
            TokenCount = dataset.Train.TokenCount,
            StepSeconds = seconds,
            WorkerCount = 1,
            Time = Timestamp.FromDateTimeOffset(DateTimeOffset.UtcNow),
        };
        if (loss is { } measured)
        {
            step.ValidationLoss = measured;
        }

        progress.Step(step, seconds);
        progress.Checkpoint(checkpoint, loss);
        progress.Finished(seconds);

        double? Number(string key) => properties[key]?.GetValue<double>();
    }
}
