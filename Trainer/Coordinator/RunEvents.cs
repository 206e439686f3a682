using Google.Protobuf.Collections;
using Google.Protobuf.WellKnownTypes;
using LlmPipeline.Runs.V1;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary>Events of a run; the one list of their kinds.</summary>
internal static class RunEvents
{
    public const string StateChanged = "STATE_CHANGED";
    public const string Resumed = "RESUMED";
    public const string ServiceUnreachable = "SERVICE_UNREACHABLE";
    public const string ServiceAnswers = "SERVICE_ANSWERS";
    public const string DatasetReady = "DATASET_READY";
    public const string WorkersAwaited = "WORKERS_AWAITED";
    public const string EpochStarted = "EPOCH_STARTED";
    public const string WorkerJoined = "WORKER_JOINED";
    public const string WorkerLost = "WORKER_LOST";
    public const string WorkerLeft = "WORKER_LEFT";
    public const string WorkerOutOfMemory = "WORKER_OUT_OF_MEMORY";
    public const string WorkerStandsBy = "WORKER_STANDS_BY";
    public const string RolledBack = "ROLLED_BACK";
    public const string PrecisionChosen = "PRECISION_CHOSEN";
    public const string MicroBatchReduced = "MICRO_BATCH_REDUCED";
    public const string FingerprintsDiffer = "FINGERPRINTS_DIFFER";
    public const string Validated = "VALIDATED";
    public const string CheckpointWritten = "CHECKPOINT_WRITTEN";
    public const string CheckpointDamaged = "CHECKPOINT_DAMAGED";
    public const string TrainingFinished = "TRAINING_FINISHED";
    public const string Evaluated = "EVALUATED";
    public const string Published = "PUBLISHED";
    public const string CoordinatorRestarted = "COORDINATOR_RESTARTED";

    private const int MaxEvents = 200;

    /// <summary>Numbers the events of a record from before there were numbers.</summary>
    public static Run Numbered(Run run)
    {
        for (var i = 0; i < run.Events.Count && run.Events[i].Sequence == 0; i++)
        {
            run.Events[i].Sequence = i + 1;
        }

        return run;
    }

    /// <summary>Adds an event; the oldest ones go, but not those that say how the run computes.</summary>
    public static void Add(Run run, string kind, string message, DateTimeOffset now)
    {
        var sequence = run.Events.Count > 0 ? run.Events[^1].Sequence + 1 : 1;
        run.Events.Add(new RunEvent { Kind = kind, Message = message, Time = Timestamp.FromDateTimeOffset(now), Sequence = sequence });
        while (run.Events.Count > MaxEvents)
        {
            run.Events.RemoveAt(OldestToGo(run.Events));
        }
    }

    private static int OldestToGo(RepeatedField<RunEvent> events)
    {
        // The newest stays in any case: the next one is numbered after it.
        for (var i = 0; i < events.Count - 1; i++)
        {
            if (events[i].Kind is not (PrecisionChosen or MicroBatchReduced))
            {
                return i;
            }
        }

        return 0;
    }
}
