using LlmPipeline.Runs.V1;
using LlmPipeline.Workers.V1;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary>A worker, as its heartbeats tell. Guarded by the lock of <see cref="EpochManager"/>.</summary>
internal sealed class EpochWorker(string id, long joinedAt)
{
    private TaskCompletionSource _changed = New();

    public string Id => id;

    /// <summary>When its first heartbeat came (timestamp).</summary>
    public long JoinedAt => joinedAt;

    public string Address { get; private set; } = "";

    public string Device { get; private set; } = "";

    /// <summary>What it computes with.</summary>
    public string Fingerprint { get; private set; } = "";

    /// <summary>Processes killed for memory in its control group up to its start; null when it is not known.</summary>
    public long? MemoryKills { get; private set; }

    public WorkerState? State { get; private set; }

    public EpochFailure? Failure { get; private set; }

    public bool Leaving { get; private set; }

    /// <summary>What its memory was with the newest heartbeat, for a person; empty where it is not limited.</summary>
    public string MemoryUse { get; private set; } = "";

    /// <summary>When its newest heartbeat came (timestamp).</summary>
    public long LastBeat { get; private set; }

    /// <summary>When it was last heard of: a heartbeat, or the end of one (timestamp).</summary>
    public long LastSeen { get; private set; }

    /// <summary>Heartbeats that are being held.</summary>
    public int OpenCalls { get; private set; }

    /// <summary>What it was told to do; null while that is not decided.</summary>
    public Assignment? Assignment { get; private set; }

    /// <summary>Completes when <see cref="Assignment"/> changes.</summary>
    public Task Changed => _changed.Task;

    /// <summary>A heartbeat came.</summary>
    public void Beat(HeartbeatRequest request, long now)
    {
        (Address, Device, Fingerprint, State, Failure, Leaving) =
            (request.Address, request.Device, request.Fingerprint, request.State, request.Failure, request.Leaving);
        MemoryUse = request.Memory is { } memory
            ? FormattableString.Invariant($"; {memory.UsedBytes >> 20} of the {memory.LimitBytes >> 20} MiB of memory of its control group were in use")
            : "";
        MemoryKills = request.HasMemoryKills ? request.MemoryKills : null;
        LastBeat = LastSeen = now;
        OpenCalls++;
    }

    /// <summary>A heartbeat was answered, or broke off.</summary>
    public void EndBeat(long now)
    {
        OpenCalls--;
        LastSeen = now;
    }

    /// <summary>When it said that it is prepared for the present run (timestamp); 0 while it is not.</summary>
    public long PreparedAt { get; private set; }

    /// <summary>It tried to prepare for the present run, could not, and has not since: as a member it would fail the run.</summary>
    public bool IsUnable { get; private set; }

    /// <summary>Sees what its newest heartbeat means for a run.</summary>
    /// <param name="job">The run; null for none.</param>
    /// <param name="isMember">It is a member of the present epoch, so a failure is the epoch's.</param>
    /// <param name="now">Timestamp.</param>
    public void Judge(TrainingJob? job, bool isMember, long now)
    {
        var isPrepared = job is not null && IsPreparedFor(job);
        PreparedAt = !isPrepared ? 0 : PreparedAt == 0 ? now : PreparedAt;
        var isPreparing = Assignment?.Epoch is { Rank: < 0 } plan && plan.Run == job?.Run && plan.Epoch == Failure?.Epoch;
        IsUnable = !isPrepared && !isMember && (isPreparing || IsUnable);
    }

    /// <summary>There is another run.</summary>
    public void BeginJob(TrainingJob? job, long now)
    {
        IsUnable = false;
        Judge(job, isMember: false, now);
    }

    /// <summary>Tells it something new.</summary>
    public void Assign(Assignment assignment)
    {
        Assignment = assignment;
        var changed = _changed;
        _changed = New();
        changed.SetResult();
    }

    /// <summary>Steps done in the state it holds of a run; -1 when it holds none.</summary>
    public long StepOf(TrainingJob job) => IsPreparedFor(job) ? State!.Step : -1;

    /// <summary>Whether it has everything that a member needs but the state, or that as well.</summary>
    public bool IsPreparedFor(TrainingJob job) => State is { } state && state.Run == job.Run && state.Attempt == job.Attempt;

    public RunWorker ToRecord(int rank) => new() { WorkerId = id, Device = Device, Rank = rank, Fingerprint = Fingerprint };

    private static TaskCompletionSource New() => new(TaskCreationOptions.RunContinuationsAsynchronously);
}
