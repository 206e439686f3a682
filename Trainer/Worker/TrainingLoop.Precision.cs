using System.Diagnostics;
using LlmPipeline.Models;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Trainer.Collectives;

namespace LlmPipeline.Trainer.Worker;

/// <summary>The precision of a run, and the loss scale that fp16 needs.</summary>
internal sealed partial class TrainingLoop
{
    /// <summary>
    /// Lets the model compute in the precision of the run: the spec's, or, with <c>auto</c>, the one that rank 0 found faster
    /// before the first step. It lies in the state from then on, for later epochs and for those who copy or resume.
    /// </summary>
    private void SettlePrecision()
    {
        var precision = _settings.Precision ?? (State.Precision is { } decided ? Precisions.Parse(decided) : State.Step > 0 ? Precision.Fp32 : null);
        while (precision is null)
        {
            var buffer = new ExchangeBuffer(0, 2);
            if (_place.Rank == 0)
            {
                TakeArrived(isNeeded: true);
                TryPrecisions(buffer);
            }

            Exchange(State.Step, Buckets.Precision, buffer);
            if (buffer.Count(1) > 0)
            {
                ReduceMicroBatch(State.Step);
                continue;
            }

            precision = (Precision)buffer.Count(0);
            _clock = Stopwatch.GetTimestamp();
        }

        try
        {
            _replica.Model.Precision = precision.Value;
        }
        catch (NotSupportedException exception)
        {
            throw new FatalTrainingException(ErrorReasons.InvalidSpec, $"training.precision: {exception.Message}", exception);
        }

        _replica.State = State with
        {
            Precision = Precisions.NameOf(precision.Value),
            LossScaler = State.LossScaler ?? (precision == Precision.Fp16 ? new LossScaler() : null),
        };
    }

    private void TryPrecisions(ExchangeBuffer buffer)
    {
        try
        {
            var trial = PrecisionTrial.Run(_replica.Model, _data, _settings);
            Tell(RunEventKinds.PrecisionChosen, $"Training is in {Precisions.NameOf(trial.Chosen)}: {trial.Reason}.");
            buffer.AddCount(0, (int)trial.Chosen);
        }
        catch (Exception exception) when (OutOfMemory.Is(exception) && _settings.MicroBatchSize > 1)
        {
            LogOutOfMemory(_logger, exception, State.Step, State.Run, _settings.MicroBatchSize);
            buffer.AddCount(1, 1);
        }
    }

    /// <summary>
    /// A scaled gradient overflowed on some worker: the same step again on all of them, with half the scale; false when that is not
    /// the scale's doing.
    /// </summary>
    private bool ReduceLossScale(long step)
    {
        var scaler = State.LossScaler!.After(overflow: true);
        if (scaler.Scale < LossScaler.SmallestScale)
        {
            return false;
        }

        _replica.State = State with { LossScaler = scaler };
        LogOverflow(_logger, State.Run, step, scaler.Scale);
        return true;
    }

    [LoggerMessage(2503, LogLevel.Information, "{Run}: a gradient of step {Step} overflowed; it is taken again with the loss scaled by {Scale}.")]
    private static partial void LogOverflow(ILogger logger, string run, long step, double scale);
}
