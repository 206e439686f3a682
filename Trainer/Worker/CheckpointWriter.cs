using System.Diagnostics;

namespace LlmPipeline.Trainer.Worker;

/// <summary>
/// Writes checkpoints while training goes on: a copy of the replica is taken between two steps, everything else happens on
/// another thread. At most one is on its way. Used by the loop's thread.
/// </summary>
internal sealed partial class CheckpointWriter(
    ICheckpointStore store, IProgressSink progress, TrainerMetrics metrics, TrainingTrace trace, ILogger logger)
{
    private Task<Exception?>? _writing;
    private TrainerState? _written;

    /// <summary>Begins to write the replica's present state; waits for the one before.</summary>
    /// <param name="replica">What to write.</param>
    /// <param name="keep">Newest checkpoints that are kept.</param>
    /// <param name="copy">The replica steps on meanwhile.</param>
    public void Begin(Replica replica, int keep, bool copy)
    {
        Finish(replica);
        var state = replica.State.Checkpointed();
        var snapshot = copy ? replica.TakeSnapshot(state) : replica.Present(state);
        var activity = trace.Start("checkpoint");
        _written = state;
        _writing = Task.Run(() => Write(snapshot, keep, activity));
    }

    /// <summary>Waits until nothing is on its way, and takes what was written into the replica's state. The cause when the last one failed.</summary>
    public Exception? Finish(Replica replica)
    {
        if (_writing is not { } writing || _written is not { } written)
        {
            return null;
        }

        var error = writing.GetAwaiter().GetResult();
        (_writing, _written) = (null, null);
        if (error is null)
        {
            replica.State = replica.State with { BestCheckpointStep = written.BestCheckpointStep, BestCheckpointLoss = written.BestCheckpointLoss };
        }

        return error;
    }

    private Exception? Write(ReplicaSnapshot snapshot, int keep, Activity? activity)
    {
        using var ends = activity;
        var start = Stopwatch.GetTimestamp();
        var state = snapshot.State;
        try
        {
            var name = store.Save(snapshot, keep);
            activity?.SetTag("checkpoint", name);
            metrics.CheckpointWritten(Stopwatch.GetElapsedTime(start));
            progress.Checkpoint(name, state.ValidationStep == state.Step ? state.ValidationLoss : null);
            return null;
        }
        catch (Exception exception)
        {
            activity?.SetStatus(ActivityStatusCode.Error, exception.Message);
            LogFailed(exception, state.Step, state.Run);
            return exception;
        }
    }

    [LoggerMessage(2500, LogLevel.Error, "The checkpoint of step {Step} of {Run} could not be written; an older one is intact, and the next is tried at the next interval.")]
    private partial void LogFailed(Exception exception, long step, string run);
}
