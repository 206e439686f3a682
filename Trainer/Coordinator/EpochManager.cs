using LlmPipeline.Workers.V1;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary>
/// Membership: who is there, who steps together, and when that has to change. No I/O and no timers: heartbeats come in, and
/// whoever drives it asks <see cref="Decide"/> after each <see cref="Changed"/>.
/// </summary>
internal sealed partial class EpochManager(TimeProvider time, EpochTimings timings)
{
    /// <summary>Kills for memory without getting further after which the micro-batch is halved: one may be somebody else's doing.</summary>
    private const int KillsToReduce = 2;

    private readonly Lock _lock = new();
    private readonly Signal _changed = new();
    private readonly Dictionary<string, EpochWorker> _workers = new(StringComparer.Ordinal);
    private readonly List<WorkerNotice> _notices = [];
    private readonly HashSet<string> _standingBy = new(StringComparer.Ordinal);
    private readonly Dictionary<string, (string Id, long Kills)> _memoryKills = new(StringComparer.Ordinal);
    private bool _open;
    private long _version;
    private TrainingJob? _job;
    private long _jobSince;
    private bool _cancel;
    private Epoch? _epoch;
    private int _brokenEpochs;
    private int _memoryKillsHere;

    /// <summary>Completes when something changed that <see cref="Decide"/> looks at.</summary>
    public Task Changed => _changed.Next;

    /// <summary>Workers that are there.</summary>
    public int WorkerCount
    {
        get
        {
            lock (_lock)
            {
                return _workers.Count;
            }
        }
    }

    /// <summary>Sets where versions of assignments begin. Workers are told nothing before the first <see cref="SetJob"/>.</summary>
    /// <param name="incarnation">A number that no earlier coordinator had; versions of assignments grow from it.</param>
    public void Open(long incarnation)
    {
        lock (_lock)
        {
            _version = incarnation << 24;
        }
    }

    /// <summary>Sets what is to be trained; null releases the workers.</summary>
    public void SetJob(TrainingJob? job)
    {
        lock (_lock)
        {
            (_job, _jobSince, _cancel, _epoch, _brokenEpochs, _memoryKillsHere) = (job, time.GetTimestamp(), false, null, 0, 0);
            _notices.Clear();
            _standingBy.Clear();
            foreach (var worker in _workers.Values)
            {
                worker.BeginJob(job, time.GetTimestamp());
            }

            _open = true;
            ReleaseIdle();
        }

        _changed.Set();
    }

    /// <summary>Asks the members to stop after their present step and to write a checkpoint.</summary>
    public void Cancel()
    {
        lock (_lock)
        {
            if (_job is null || _cancel)
            {
                return;
            }

            _cancel = true;
            foreach (var member in _epoch?.Members ?? [])
            {
                if (_workers.TryGetValue(member, out var worker) && worker.Assignment?.Epoch is { } plan && plan.Epoch == _epoch!.Number)
                {
                    plan = plan.Clone();
                    plan.Cancel = true;
                    Assign(worker, plan);
                }
            }
        }

        _changed.Set();
    }

    /// <summary>Whether a report of this epoch and worker counts.</summary>
    public bool Accepts(string run, long epoch, string workerId)
    {
        lock (_lock)
        {
            return _job?.Run == run && _epoch?.Number == epoch && _epoch.Members.Contains(workerId);
        }
    }

    /// <summary>Steps were done: the present epoch works.</summary>
    public void Progressed()
    {
        lock (_lock)
        {
            (_brokenEpochs, _memoryKillsHere) = (0, 0);
        }
    }

    /// <summary>What happened to workers since the last call.</summary>
    public IReadOnlyList<WorkerNotice> TakeNotices()
    {
        lock (_lock)
        {
            WorkerNotice[] taken = [.. _notices];
            _notices.Clear();
            return taken;
        }
    }

    /// <summary>Begins an epoch; null when that is not due any more, or <paramref name="origin"/> is needed and missing.</summary>
    /// <param name="number">Its number, larger than any before.</param>
    /// <param name="origin">Where it begins when nobody holds state.</param>
    public EpochStart? Begin(long number, EpochOrigin? origin)
    {
        lock (_lock)
        {
            var decision = DecideLocked(isBeginning: true);
            if (decision.Action != EpochAction.Form || (decision.NeedsOrigin && origin is null))
            {
                return null;
            }

            var job = _job!;
            var members = ChooseMembers(job);
            var source = SourceOf(members, job);
            foreach (var newcomer in members.Where(m => _epoch?.Members.Contains(m.Id) != true && !job.ExpectedWorkers.Contains(m.Id)))
            {
                _notices.Add(new WorkerNotice(RunEvents.WorkerJoined, $"{newcomer.Id} ({newcomer.Device}) joined."));
            }

            TellMixture(members);
            var startStep = source >= 0 ? members[source].StepOf(job) : origin!.Step;
            var plan = new EpochPlan
            {
                Epoch = number,
                Run = job.Run,
                Attempt = job.Attempt,
                Spec = job.Spec,
                Dataset = job.Dataset,
                SourceRank = source,
                StartStep = startStep,
                Checkpoint = source >= 0 ? "" : origin!.Checkpoint,
                Cancel = _cancel,
                Traceparent = job.Traceparent,
                Members = { members.Select(m => new EpochMember { WorkerId = m.Id, Address = m.Address }) },
                MaxMicroBatchSize = _memoryKillsHere >= KillsToReduce ? MicroBatchAfterKills(job) : 0,
            };
            _brokenEpochs = _epoch?.BrokenAt is null ? 0 : _brokenEpochs + 1;
            _epoch = new Epoch(plan);
            foreach (var worker in _workers.Values)
            {
                var rank = members.IndexOf(worker);
                if (rank >= 0)
                {
                    var own = plan.Clone();
                    own.Rank = rank;
                    Assign(worker, own);
                }
                else if (worker.Assignment is not { Epoch: null })
                {
                    Assign(worker, null);
                }
            }

            return new EpochStart(number, [.. members.Select((m, rank) => m.ToRecord(rank))], decision.Reason, startStep, source < 0);
        }
    }

    /// <summary>Workers that may be members now: not those that tried to prepare and could not.</summary>
    private List<EpochWorker> Candidates(TrainingJob job) => [.. Eligible(job).Where(w => !w.IsUnable)];

    /// <summary>Workers that may be members at some time. In the exact mode all of them compute with what the run's workers compute with.</summary>
    private List<EpochWorker> Eligible(TrainingJob job)
    {
        var present = _workers.Values.Where(w => !w.Leaving).ToList();
        if (!job.IsExact(present.Select(w => w.Device)))
        {
            return present;
        }

        var ours = (present.OrderBy(w => IndexOf(_epoch?.Members ?? [], w.Id)).FirstOrDefault(w => _epoch?.Members.Contains(w.Id) == true)
            ?? present.Where(w => w.StepOf(job) >= 0).OrderBy(w => IndexOf(job.ExpectedWorkers, w.Id)).ThenByDescending(w => w.StepOf(job)).FirstOrDefault()
            ?? present.GroupBy(w => w.Fingerprint).OrderByDescending(g => g.Count()).ThenBy(g => g.Min(w => w.JoinedAt)).First().First()).Fingerprint;
        foreach (var stranger in present.Where(w => w.Fingerprint != ours))
        {
            if (_standingBy.Add(stranger.Id))
            {
                _notices.Add(new WorkerNotice(RunEvents.WorkerStandsBy,
                    $"{stranger.Id} stands by: {Difference(stranger.Fingerprint, ours)}, so it may round differently, and the result would depend on who computed what. Start it on a machine of the same kind with the same settings, or set training.exchange.mode: plain."));
            }

            if (stranger.Assignment is not { Epoch: null })
            {
                Assign(stranger, null);
            }
        }

        return [.. present.Where(w => w.Fingerprint == ours)];
    }

    /// <summary>In what two fingerprints differ.</summary>
    private static string Difference(string its, string ours)
    {
        string[] a = its.Split(' '), b = ours.Split(' ');
        return $"it computes with {Only(a, b)}, the run's workers with {Only(b, a)}";

        static string Only(string[] of, string[] not) => string.Join(' ', of.Except(not)) is { Length: > 0 } parts ? parts : string.Join(' ', of);
    }

    /// <summary>Members that compute with different processors or libraries may round differently.</summary>
    private void TellMixture(List<EpochWorker> members)
    {
        var kinds = members.GroupBy(m => m.Fingerprint).ToList();
        if (kinds.Count > 1)
        {
            _notices.Add(new WorkerNotice(RunEvents.FingerprintsDiffer,
                $"Workers compute differently, so the result may depend on who computed what: {string.Join("; ", kinds.Select(k => $"{string.Join(", ", k.Select(m => m.Id))} with {k.Key}"))}."));
        }
    }

    private static int SourceOf(List<EpochWorker> members, TrainingJob job)
    {
        var best = -1;
        for (var rank = 0; rank < members.Count; rank++)
        {
            if (members[rank].StepOf(job) > (best < 0 ? -1 : members[best].StepOf(job)))
            {
                best = rank;
            }
        }

        return best;
    }

    /// <summary>Survivors in their order, then those known from before a restart, then the others by state and time of joining.</summary>
    private List<EpochWorker> ChooseMembers(TrainingJob job) =>
    [
        .. Ready(job, Candidates(job))
            .OrderBy(w => IndexOf(_epoch?.Members ?? [], w.Id))
            .ThenBy(w => IndexOf(job.ExpectedWorkers, w.Id))
            .ThenByDescending(w => w.StepOf(job))
            .ThenBy(w => w.JoinedAt)
            .ThenBy(w => w.Id, StringComparer.Ordinal)
            .Take(job.MaxWorkers),
    ];

    /// <summary>Those that nobody has to wait for while they open the dataset and make the network; all of them where no state is held, or too few are ready.</summary>
    private List<EpochWorker> Ready(TrainingJob job, List<EpochWorker> candidates)
    {
        var ready = candidates.Where(w => w.IsPreparedFor(job) || _epoch?.Members.Contains(w.Id) == true).ToList();
        return ready.Exists(w => w.StepOf(job) >= 0) && ready.Count >= (_cancel ? 1 : job.MinWorkers) ? ready : candidates;
    }

    private static int IndexOf(IReadOnlyList<string> ids, string id)
    {
        for (var i = 0; i < ids.Count; i++)
        {
            if (ids[i] == id)
            {
                return i;
            }
        }

        return int.MaxValue;
    }

    private void ReleaseIdle()
    {
        if (!_open || _job is not null)
        {
            return;
        }

        foreach (var worker in _workers.Values.Where(w => w.Assignment is not { Epoch: null }))
        {
            Assign(worker, null);
        }
    }

    private int MicroBatchAfterKills(TrainingJob job) => Math.Max(1, (job.Spec.Training?.MicroBatchSize ?? 1) >> Math.Min(30, _memoryKillsHere / KillsToReduce));

    private void Assign(EpochWorker worker, EpochPlan? plan) => worker.Assign(new Assignment { Version = ++_version, Epoch = plan });

    private void Lose(EpochWorker worker, string cause)
    {
        _workers.Remove(worker.Id);
        if (_epoch?.Members.Contains(worker.Id) == true)
        {
            _notices.Add(new WorkerNotice(RunEvents.WorkerLost, $"{worker.Id} is lost: {cause}{worker.MemoryUse}."));
            _epoch.Lost.Add(worker.Id);
        }
    }

    /// <summary>The present epoch.</summary>
    private sealed class Epoch(EpochPlan plan)
    {
        public long Number => plan.Epoch;

        public IReadOnlyList<string> Members { get; } = [.. plan.Members.Select(m => m.WorkerId)];

        /// <summary>What a worker needs to prepare for a later epoch.</summary>
        public EpochPlan ToPrepare()
        {
            var preparing = plan.Clone();
            (preparing.Rank, preparing.SourceRank, preparing.Checkpoint, preparing.MaxMicroBatchSize) = (-1, 0, "", 0);
            preparing.Members.Clear();
            return preparing;
        }

        /// <summary>When the first member reported its failure (timestamp).</summary>
        public long? BrokenAt { get; set; }

        /// <summary>Members that are gone.</summary>
        public HashSet<string> Lost { get; } = new(StringComparer.Ordinal);
    }
}
