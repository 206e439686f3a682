using Grpc.Core;
using LlmPipeline.Runs.V1;
using LlmPipeline.Workers.V1;

namespace LlmPipeline.Trainer.Tests;

/// <summary>The coordinator's side of the worker protocol for one run, in memory and without durability.</summary>
/// <param name="spec">The run.</param>
/// <param name="workers">Workers to wait for.</param>
/// <param name="firstEpoch">Epochs count from here.</param>
/// <param name="checkpoint">What to begin with when nobody holds state.</param>
/// <param name="attempt">Attempt of the run.</param>
internal sealed class FakeCoordinator(RunSpec spec, int workers, long firstEpoch = 1, string checkpoint = "", int attempt = 1) : CoordinatorService.CoordinatorServiceBase
{
    private readonly Lock _lock = new();
    private readonly Dictionary<string, Member> _workers = [];
    private readonly TaskCompletionSource _finished = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private TaskCompletionSource _changed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private List<string> _epochMembers = [];
    private long _epoch = firstEpoch - 1;
    private long _version = firstEpoch * 1000;
    private bool _over;
    private bool _cancelled;
    private int _stepsOfEpoch;

    /// <summary>Completes when rank 0 reports the end; fails with the first fatal failure.</summary>
    public Task Finished => _finished.Task;

    public SortedDictionary<long, StepMetrics> Steps { get; } = [];

    public List<(string Name, double? Loss)> Checkpoints { get; } = [];

    public List<EpochFailure> Failures { get; } = [];

    public (long Step, double Loss, double Norm, double Rate, double Validation)[] Curve
    {
        get
        {
            lock (_lock)
            {
                return [.. Steps.Values.Select(s => (s.Step, s.TrainLoss, s.GradientNorm, s.LearningRate, s.HasValidationLoss ? s.ValidationLoss : -1))];
            }
        }
    }

    /// <summary>Waits until a step was reported.</summary>
    public Task StepReportedAsync(long step) => WaitAsync(() => Steps.Keys.Any(s => s >= step));

    /// <summary>Waits until the epochs so far meet a condition, and as many steps of the newest were reported.</summary>
    public Task EpochReportedAsync(Func<int, bool> epochs, int steps) =>
        WaitAsync(() => epochs((int)(_epoch - firstEpoch + 1)) && _stepsOfEpoch >= steps);

    /// <summary>Waits until a worker said that an epoch broke.</summary>
    public async Task<EpochFailure> FailureAsync()
    {
        await WaitAsync(() => Failures.Count > 0);
        lock (_lock)
        {
            return Failures[0];
        }
    }

    /// <summary>Epochs that nobody holds state for begin from this checkpoint.</summary>
    public void BeginFrom(string name)
    {
        lock (_lock)
        {
            checkpoint = name;
        }
    }

    private async Task WaitAsync(Func<bool> condition)
    {
        while (true)
        {
            Task changed;
            lock (_lock)
            {
                if (condition())
                {
                    return;
                }

                changed = _changed.Task;
            }

            await changed.WaitAsync(TinyRun.Timeout);
        }
    }

    /// <summary>Sets the cancel flag of the present epoch.</summary>
    public void Cancel()
    {
        lock (_lock)
        {
            _cancelled = true;
            foreach (var member in _workers.Values.Where(w => w.Assignment.Epoch is not null))
            {
                member.Assignment = member.Assignment.Clone();
                member.Assignment.Version = ++_version;
                member.Assignment.Epoch.Cancel = true;
            }

            Changed();
        }
    }

    public override async Task<HeartbeatResponse> Heartbeat(HeartbeatRequest request, ServerCallContext context)
    {
        var deadline = DateTime.UtcNow.AddMilliseconds(request.MaxWaitMilliseconds);
        while (true)
        {
            Task changed;
            lock (_lock)
            {
                var member = _workers.TryGetValue(request.WorkerId, out var known) ? known : _workers[request.WorkerId] = new Member();
                member.Last = request;
                member.Lost = request.Leaving;
                Judge();
                if (member.Assignment.Version != request.SeenAssignment || DateTime.UtcNow >= deadline)
                {
                    return new HeartbeatResponse { Assignment = member.Assignment };
                }

                changed = _changed.Task;
            }

            await Task.WhenAny(changed, Task.Delay(deadline - DateTime.UtcNow is var left && left > TimeSpan.Zero ? left : TimeSpan.Zero, context.CancellationToken));
            context.CancellationToken.ThrowIfCancellationRequested();
        }
    }

    public override Task<ReportProgressResponse> ReportProgress(ReportProgressRequest request, ServerCallContext context)
    {
        lock (_lock)
        {
            if (request.Epoch != _epoch)
            {
                throw new RpcException(new Status(StatusCode.Aborted, $"epoch {request.Epoch} is over"));
            }

            foreach (var step in request.Metrics)
            {
                _stepsOfEpoch += Steps.ContainsKey(step.Step) ? 0 : 1;
                Steps[step.Step] = step;
            }

            if (request.Checkpoint.Length > 0)
            {
                Checkpoints.Add((request.Checkpoint, request.HasCheckpointValidationLoss ? request.CheckpointValidationLoss : null));
            }

            if (request.Finished)
            {
                _over = true;
                foreach (var member in _workers.Values)
                {
                    member.Assignment = new Assignment { Version = ++_version };
                }

                _finished.TrySetResult();
            }

            Changed();
            return Task.FromResult(new ReportProgressResponse());
        }
    }

    private void Judge()
    {
        if (_over)
        {
            return;
        }

        foreach (var failure in _workers.Values.Select(w => w.Last.Failure).Where(f => f is not null && f.Epoch == _epoch).ToList())
        {
            Failures.Add(failure!);
            if (failure!.Fatal is { } fatal)
            {
                _over = true;
                _finished.TrySetException(new InvalidOperationException($"{fatal.Reason}: {fatal.Message}"));
                return;
            }
        }

        var alive = _workers.Where(w => !w.Value.Lost).Select(w => w.Key).Order(StringComparer.Ordinal).ToList();
        var broken = Failures.Any(f => f.Epoch == _epoch);
        if (alive.Count < (_epochMembers.Count == 0 ? workers : 1) || (!broken && alive.SequenceEqual(_epochMembers)))
        {
            return;
        }

        _epoch++;
        _stepsOfEpoch = 0;
        _epochMembers = alive;
        var states = alive.Select(id => _workers[id].Last.State is { } s && s.Run == "runs/tiny" && s.Attempt == attempt ? s.Step : -1).ToList();
        var newest = states.Max();
        for (var rank = 0; rank < alive.Count; rank++)
        {
            var plan = new EpochPlan
            {
                Epoch = _epoch,
                Run = "runs/tiny",
                Attempt = attempt,
                Spec = spec,
                Dataset = "datasets/tiny",
                Rank = rank,
                SourceRank = newest >= 0 ? states.IndexOf(newest) : -1,
                StartStep = Math.Max(0, newest),
                Checkpoint = newest >= 0 ? "" : checkpoint,
                Cancel = _cancelled,
                Traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            };
            plan.Members.AddRange(alive.Select(id => new EpochMember { WorkerId = id, Address = _workers[id].Last.Address }));
            _workers[alive[rank]].Assignment = new Assignment { Version = ++_version, Epoch = plan };
        }

        Changed();
    }

    private void Changed()
    {
        var changed = _changed;
        _changed = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        changed.TrySetResult();
    }

    private sealed class Member
    {
        public HeartbeatRequest Last { get; set; } = new();

        public Assignment Assignment { get; set; } = new();

        public bool Lost { get; set; }
    }
}
