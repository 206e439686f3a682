using Google.Protobuf.WellKnownTypes;
using LlmPipeline.Runs.V1;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Trainer.Collectives;

namespace LlmPipeline.Trainer.Worker;

/// <summary>Anomalies, and micro-batches that do not fit. Everything is decided by what was exchanged, so all members do the same.</summary>
internal sealed partial class TrainingLoop
{
    private ExchangeBuffer? _rollback;

    /// <summary>Judges the step whose exchange has completed; null for one as usual.</summary>
    private Anomaly? Judge(double loss, double norm)
    {
        var isLoss = _gradients.Count(BadLosses) > 0;
        if (!isLoss && _gradients.Count(BadGradients) == 0)
        {
            return State.Guard.Judge(_settings.Guard, loss, norm);
        }

        var microBatch = Enumerable.Range(0, _settings.MicroBatches).First(m => !float.IsFinite(_gradients.Single(FirstLoss + m)));
        var beyond = _format.Mode == SumMode.Exact ? $" or beyond {FixedPoint.LimitFor(_settings.MicroBatches)}" : "";
        return new Anomaly(ErrorReasons.LossNotFinite,
            $"micro-batch {microBatch}, of {_place.NameOf(RankOf(microBatch))}: the {(isLoss ? "loss" : "gradient")} is not finite{beyond}",
            State.LossScaler is null
                ? "Lower optimizer.learning_rate or set optimizer.clip_norm"
                : "That is so whatever the loss is scaled by: lower optimizer.learning_rate, or set training.precision to bf16 or fp32");
    }

    private int RankOf(int microBatch) => Array.FindIndex(_deal, share => share.Begin <= microBatch && microBatch < share.End);

    /// <summary>Lets the step, or the steps of the round that ends with it, change nothing but the position; false when training is to go back.</summary>
    /// <exception cref="FatalTrainingException">The policy is to stop, or there were too many anomalies.</exception>
    private bool TrySkip(long step, Anomaly anomaly, TrainerState next, int steps = 1)
    {
        var guard = RequireFew(step, anomaly);
        if (_settings.Guard.Policy == AnomalyPolicy.Rollback)
        {
            return false;
        }

        var scaler = next.LossScaler is not null && anomaly.Reason == ErrorReasons.LossNotFinite ? new LossScaler() : next.LossScaler;
        _replica.Skip(next with { LossScaler = scaler, Guard = guard with { SkippedSteps = guard.SkippedSteps + steps } });
        Tell(RunEventKinds.StepSkipped, $"{(steps == 1 ? $"Step {step}" : $"The round of {steps} steps up to {step}")} changed nothing ({anomaly.Reason}): {anomaly.Message}.");
        return true;
    }

    /// <summary>The guard's state with one more anomaly.</summary>
    /// <exception cref="FatalTrainingException">The policy is to stop, or there were too many anomalies.</exception>
    private GuardState RequireFew(long step, Anomaly anomaly)
    {
        var (guard, tooMany) = State.Guard.Note(_settings.Guard, step);
        if (tooMany || _settings.Guard.Policy == AnomalyPolicy.Stop)
        {
            var many = _settings.Guard.Policy == AnomalyPolicy.Stop ? ""
                : $" That is one more than the {_settings.Guard.MaxAnomalies} within {_settings.Guard.Window} steps that training.max_anomalies allows.";
            throw new FatalTrainingException(anomaly.Reason,
                $"Step {step}, {anomaly.Message}.{many} {anomaly.Remedy}, in another run: this one's spec stays as it is. A checkpoint of this one, if there is one, can be its fine_tune.base.");
        }

        return guard;
    }

    /// <summary>
    /// Goes back to the newest intact checkpoint, or to the beginning: rank 0 names it, all load it. The data up to the anomaly
    /// is not seen again.
    /// </summary>
    private void GoBack(long step, Anomaly anomaly, double seconds)
    {
        TakeArrived(isNeeded: true);
        var present = State;
        _rollback ??= new ExchangeBuffer(0, 2);
        _rollback.Clear();
        if (_place.Rank == 0)
        {
            _writer.Finish(_replica);
            _rollback.Set(0, (double)_checkpoints.NewestIntact(present.Run, present.Step));
        }

        Exchange(step, Buckets.Rollback, _rollback);
        var target = (long)_rollback.Double(0);

        // Nobody copies a state that is being replaced; should that fail, this worker holds none.
        _replica.State = present with { Step = -1 };
        var loaded = target > 0 ? _checkpoints.Load(_replica, target)
            : (Begin ?? throw new InvalidOperationException("Nobody can make the beginning of this run."))();
        _replica.State = loaded with
        {
            Run = present.Run,
            SpecHash = present.SpecHash,
            TrainSeconds = seconds,
            MicroBatchSize = present.MicroBatchSize,
            Precision = present.Precision,
            LossScaler = loaded.LossScaler ?? (present.LossScaler is null ? null : new LossScaler()),
            Guard = loaded.Guard.GoBack(present.Guard.Note(_settings.Guard, step).State, step - target),
        };
        _replica.Forget(target);
        if (_place.Rank == 0)
        {
            _progress.Rollback(target);
        }

        Tell(RunEventKinds.RolledBack,
            $"Training went back from step {step} to {(target > 0 ? $"the checkpoint of step {target}" : "its beginning")} ({anomaly.Reason}): {anomaly.Message}. The data in between is passed over.");
        StepDone?.Invoke();
    }

    /// <summary>A micro-batch did not fit into some member's memory: all go on with a smaller one.</summary>
    private void ReduceMicroBatch(long step)
    {
        var size = _settings.MicroBatchSize;
        UseMicroBatch(Enumerable.Range(1, size / 2).Last(smaller => _settings.SequencesTogether % smaller == 0));
        Tell(RunEventKinds.MicroBatchReduced,
            $"Step {step}: a micro-batch of {size} sequences does not fit into memory; it has {_settings.MicroBatchSize} from now on. Losses and weights differ from then on from those of a run that does not run out of memory, by rounding.");
        GC.Collect();
    }

    private void UseMicroBatch(int size)
    {
        if (State.MicroBatchSize != size)
        {
            _replica.State = State with { MicroBatchSize = size };
        }

        if (_settings.MicroBatchSize != size)
        {
            _settings = _settings with { MicroBatchSize = size };
            _data = _data.With(_settings);
            _gradients = GradientBuffer();
            _shares.Begin(_settings.MicroBatches, [.. Enumerable.Range(0, _place.Size).Select(_shares.IsArriving)]);
        }
    }

    private void Tell(string kind, string message)
    {
        LogEvent(_logger, kind == RunEventKinds.PrecisionChosen ? LogLevel.Information : LogLevel.Warning, State.Run, message);
        _replica.Remember(new RunEvent { Kind = kind, Message = message, Time = Timestamp.FromDateTimeOffset(DateTimeOffset.UtcNow) });
        if (_place.Rank == 0)
        {
            _progress.Event(kind, message);
        }
    }

    [LoggerMessage(EventId = 2501, Message = "{Run}: {Message}")]
    private static partial void LogEvent(ILogger logger, LogLevel level, string run, string message);
}
