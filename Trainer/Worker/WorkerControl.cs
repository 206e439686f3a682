using System.Diagnostics;
using LlmPipeline.Workers.V1;

namespace LlmPipeline.Trainer.Worker;

/// <summary>
/// What the heartbeat and the compute thread know of each other: the newest assignment one way, the state and failures the
/// other.
/// </summary>
internal sealed class WorkerControl
{
    private readonly Lock _lock = new();
    private TaskCompletionSource _assigned = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private TaskCompletionSource _urgent = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private Assignment? _assignment;
    private WorkerState? _state;
    private EpochFailure? _failure;
    private bool _exiting;
    private long _exitingSince;
    private long _actingEpoch;
    private long _pendingSince;

    /// <summary>The process wants to exit.</summary>
    public bool Exiting
    {
        get
        {
            lock (_lock)
            {
                return _exiting;
            }
        }
    }

    /// <summary>Completes when the next heartbeat should be sent at once.</summary>
    public Task Urgent
    {
        get
        {
            lock (_lock)
            {
                return _urgent.Task;
            }
        }
    }

    /// <summary>Fills in what changes from heartbeat to heartbeat; <see cref="Urgent"/> is fresh afterwards.</summary>
    public void Fill(HeartbeatRequest request)
    {
        lock (_lock)
        {
            if (_urgent.Task.IsCompleted)
            {
                _urgent = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            }

            request.SeenAssignment = _assignment?.Version ?? 0;
            request.State = _state;
            request.Failure = _failure;
            request.Leaving = _exiting;
        }
    }

    /// <summary>
    /// Takes an assignment from the coordinator. False when it comes from one that another has taken over from: versions grow over
    /// coordinators.
    /// </summary>
    public bool Receive(Assignment? assignment)
    {
        TaskCompletionSource? assigned = null;
        lock (_lock)
        {
            if (assignment is null || assignment.Version == _assignment?.Version)
            {
                return true;
            }

            if (assignment.Version < _assignment?.Version)
            {
                return false;
            }

            _assignment = assignment;
            if (_failure is not null && (assignment.Epoch is null || assignment.Epoch.Epoch > _failure.Epoch))
            {
                _failure = null;
            }

            if (_actingEpoch != 0 && assignment.Epoch?.Epoch != _actingEpoch && _pendingSince == 0)
            {
                _pendingSince = Stopwatch.GetTimestamp();
            }

            (assigned, _assigned) = (_assigned, new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously));
        }

        assigned.SetResult();
        return true;
    }

    /// <summary>Says what state is held now.</summary>
    public void Hold(WorkerState? state, bool urgent = false)
    {
        lock (_lock)
        {
            _state = state;
        }

        if (urgent)
        {
            Hurry();
        }
    }

    /// <summary>Says at once that the worker is prepared, and that no attempt at it has failed any more.</summary>
    public void Prepared()
    {
        lock (_lock)
        {
            _failure = null;
        }

        Hurry();
    }

    /// <summary>Says that an epoch broke.</summary>
    public void Fail(EpochFailure failure)
    {
        lock (_lock)
        {
            // A newer epoch may have been assigned already: then the failure is no news.
            if (_assignment?.Epoch is not { } plan || plan.Epoch <= failure.Epoch)
            {
                _failure = failure;
            }
        }

        Hurry();
    }

    /// <summary>Begins to leave.</summary>
    public void Exit()
    {
        lock (_lock)
        {
            _exiting = true;
            _exitingSince = Stopwatch.GetTimestamp();
            if (_pendingSince == 0)
            {
                _pendingSince = Stopwatch.GetTimestamp();
            }
        }

        Hurry();
    }

    /// <summary>The plan of the newest assignment, when its epoch is newer than <paramref name="after"/>; else null. <paramref name="changed"/> completes with the next assignment.</summary>
    public EpochPlan? NextPlan(long after, out Task changed)
    {
        lock (_lock)
        {
            changed = _assigned.Task;
            return _assignment?.Epoch is { } plan && plan.Epoch > after ? plan : null;
        }
    }

    /// <summary>Whether the newest assignment has a plan.</summary>
    public bool HasPlan
    {
        get
        {
            lock (_lock)
            {
                return _assignment?.Epoch is not null;
            }
        }
    }

    /// <summary>Begins to act in an epoch and returns the control of its loop.</summary>
    public ILoopControl Act(EpochPlan plan)
    {
        lock (_lock)
        {
            _actingEpoch = plan.Epoch;
            _pendingSince = _exiting || _assignment?.Epoch?.Epoch != plan.Epoch ? Stopwatch.GetTimestamp() : 0;
        }

        return new EpochControl(this, plan);
    }

    /// <summary>Stops acting in an epoch.</summary>
    public void Rest()
    {
        lock (_lock)
        {
            _actingEpoch = 0;
        }
    }

    private void Hurry()
    {
        lock (_lock)
        {
            _urgent.TrySetResult();
        }
    }

    private sealed class EpochControl(WorkerControl control, EpochPlan plan) : ILoopControl
    {
        /// <summary>How long to wait for the others to reach the end of the step, once a new assignment is known.</summary>
        private static readonly TimeSpan Grace = TimeSpan.FromSeconds(5);

        /// <summary>The same, when a member is gone from the new assignment: it is likely to be lost.</summary>
        private static readonly TimeSpan GraceWhenLost = TimeSpan.FromMilliseconds(500);

        public bool StopRequested
        {
            get
            {
                lock (control._lock)
                {
                    return plan.Cancel || (control._assignment?.Epoch is { } newest && newest.Run == plan.Run && newest.Cancel);
                }
            }
        }

        public bool LeaveRequested
        {
            get
            {
                lock (control._lock)
                {
                    return control._exiting || control._assignment?.Epoch?.Epoch != plan.Epoch;
                }
            }
        }

        public bool Exiting => control.Exiting;

        public bool ExitingNow
        {
            get
            {
                lock (control._lock)
                {
                    return control._exiting && Stopwatch.GetElapsedTime(control._exitingSince) > Grace;
                }
            }
        }

        public bool GiveUp(TimeSpan waited)
        {
            lock (control._lock)
            {
                if (control._pendingSince == 0)
                {
                    return false;
                }

                var newest = control._assignment?.Epoch;
                var lost = newest is not null && newest.Epoch != plan.Epoch
                    && plan.Members.Any(m => newest.Members.All(n => n.WorkerId != m.WorkerId));
                var grace = lost ? GraceWhenLost : Grace;
                return waited > grace && Stopwatch.GetElapsedTime(control._pendingSince) > grace;
            }
        }
    }
}
