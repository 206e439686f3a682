using LlmPipeline.Runs.V1;

namespace LlmPipeline.Trainer.Worker;

/// <summary>What the rest of the worker tells the training loop. Read by its thread, written by others.</summary>
internal interface ILoopControl
{
    /// <summary>The run is being cancelled: stop after the present step, with a checkpoint.</summary>
    bool StopRequested { get; }

    /// <summary>Another assignment is waiting, or the process wants to exit: leave the epoch after the present step.</summary>
    bool LeaveRequested { get; }

    /// <summary>The process wants to exit.</summary>
    bool Exiting { get; }

    /// <summary>The process has wanted to exit for so long that the present step cannot be waited for.</summary>
    bool ExitingNow => false;

    /// <summary>Whether to give up an exchange that has been waiting for as long.</summary>
    bool GiveUp(TimeSpan waited);
}

/// <summary>Takes the loop's reports.</summary>
internal interface IProgressSink
{
    /// <summary>A step is done; its validation, if any, is in it.</summary>
    /// <param name="metrics">Its numbers.</param>
    /// <param name="trainSeconds">Seconds of training so far, over all attempts.</param>
    void Step(StepMetrics metrics, double trainSeconds);

    /// <summary>Training went back to a step; what was reported beyond it is void.</summary>
    void Rollback(long step);

    /// <summary>Something happened that the run is to tell.</summary>
    /// <param name="kind">One of <see cref="RunEventKinds"/>.</param>
    /// <param name="message">One sentence for a person.</param>
    void Event(string kind, string message);

    /// <summary>What happened in the last steps, which the rank 0 before may have told or not.</summary>
    /// <param name="events">Oldest first.</param>
    /// <param name="rollbackStep">The step that training went back to in them.</param>
    void Remembered(IReadOnlyList<RunEvent> events, long? rollbackStep)
    {
    }

    /// <summary>How far training has come, where steps do not tell: 0 to 1.</summary>
    void Share(double fraction);

    /// <summary>A checkpoint is committed.</summary>
    /// <param name="name">Format: <c>runs/{r}/checkpoints/{step}</c>.</param>
    /// <param name="validationLoss">Its loss, if it was measured.</param>
    void Checkpoint(string name, double? validationLoss);

    /// <summary>Training is over, and the last checkpoint committed.</summary>
    void Finished(double trainSeconds);
}

/// <summary>Kinds of events that training tells of.</summary>
internal static class RunEventKinds
{
    public const string StepSkipped = "STEP_SKIPPED";
    public const string RolledBack = "ROLLED_BACK";
    public const string PrecisionChosen = "PRECISION_CHOSEN";
    public const string MicroBatchReduced = "MICRO_BATCH_REDUCED";
    public const string ReplicaHealed = "REPLICA_HEALED";
}

/// <summary>Makes replicas durable.</summary>
internal interface ICheckpointStore
{
    /// <summary>
    /// Commits a checkpoint (once: an equal one that exists is left as it is), then removes superseded ones. Returns its name.
    /// Called by another thread than the rest.
    /// </summary>
    /// <exception cref="FatalTrainingException">The weights are not finite.</exception>
    string Save(ReplicaSnapshot snapshot, int keep);

    /// <summary>The newest checkpoint of a run up to a step that is whole and undamaged; 0 for none.</summary>
    long NewestIntact(string run, long step);

    /// <summary>Fills the replica from the checkpoint of a step, and returns its position.</summary>
    TrainerState Load(Replica replica, long step);
}

/// <summary>Why the loop returned.</summary>
internal enum LoopOutcome
{
    /// <summary>Training is over; rank 0 has committed the last checkpoint and reported it.</summary>
    Finished,

    /// <summary>All members left the epoch after the same step, for another one.</summary>
    Left,
}
