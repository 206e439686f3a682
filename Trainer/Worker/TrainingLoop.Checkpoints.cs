using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;

namespace LlmPipeline.Trainer.Worker;

/// <summary>Checkpoints.</summary>
internal sealed partial class TrainingLoop
{
    private const int LastAttempts = 12;
    private static readonly TimeSpan LastRetry = TimeSpan.FromSeconds(5);

    private readonly ICheckpointStore _checkpoints;
    private readonly CheckpointWriter _writer;

    private bool CheckpointDue(bool last, bool leaving) => _place.Rank == 0 && State.Step > 0
        && (last || (_stepped && State.Step % _settings.CheckpointInterval == 0) || (leaving && _control.Exiting && _place.Size == 1));

    /// <summary>
    /// Begins to write a checkpoint. One that fails is left to the next interval; the last one is waited for, and tried again.
    /// </summary>
    /// <returns>False when the last one could not be written, and this process has to exit.</returns>
    private bool Checkpoint(bool last)
    {
        TakeArrived(isNeeded: true);

        // No step since has shown it, so that training did not go back.
        ThrowIfBroken(_writer.Finish(_replica));
        _writer.Begin(_replica, _settings.KeepCheckpoints, copy: !last);
        for (var attempt = 1; last && _writer.Finish(_replica) is { } error; attempt++)
        {
            if (_control.Exiting)
            {
                return false;
            }

            ThrowIfBroken(error);
            if (attempt == LastAttempts || !StorageFailure.Is(error))
            {
                throw new FatalTrainingException(ErrorReasons.Internal,
                    $"The last checkpoint of {State.Run} (step {State.Step}) could not be written: {error.Message} Make room or mend the storage, and resume the run.", error);
            }

            Thread.Sleep(LastRetry);
            _writer.Begin(_replica, _settings.KeepCheckpoints, copy: !last);
        }

        _time.Lap(StepPhase.Checkpoint);
        _metrics.PhaseDone(StepPhase.Checkpoint, _time);
        return true;
    }

    private static void ThrowIfBroken(Exception? error)
    {
        if (error is FatalTrainingException fatal)
        {
            throw new FatalTrainingException(fatal.Reason, fatal.Message, fatal);
        }
    }
}
