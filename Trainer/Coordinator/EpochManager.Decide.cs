using LlmPipeline.Runs.V1;
using LlmPipeline.ServiceDefaults;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary>The rules by which epochs begin.</summary>
internal sealed partial class EpochManager
{
    /// <summary>What to do now. Workers that have been silent for too long are lost with this call.</summary>
    public EpochDecision Decide()
    {
        lock (_lock)
        {
            return DecideLocked(isBeginning: false);
        }
    }

    /// <param name="isBeginning">It was decided to begin an epoch, and storage made ready for it: the moment between two heartbeats of a worker is no reason to do that again.</param>
    private EpochDecision DecideLocked(bool isBeginning)
    {
        var nextLoss = LoseSilent();
        var decision = _job is null ? Wait("there is no run to train", null)
            : _epoch is null ? DecideFirst(_job, isBeginning)
            : DecideNext(_job, _epoch);
        return decision.Action == EpochAction.Wait ? decision with { Recheck = Sooner(decision.Recheck, nextLoss) } : decision;
    }

    /// <summary>No epoch yet, of this coordinator and attempt.</summary>
    private EpochDecision DecideFirst(TrainingJob job, bool isBeginning)
    {
        var candidates = Candidates(job);
        var holders = candidates.Where(w => w.StepOf(job) >= 0).ToList();
        var missing = job.ExpectedWorkers.Where(id => !_workers.ContainsKey(id)).ToList();
        if (missing.Count > 0 && Remaining(_jobSince, timings.Recovery) is { } recovery)
        {
            return Wait($"workers of before the restart have time to check in ({string.Join(", ", missing)})", recovery);
        }

        if (_cancel && holders.Count == 0)
        {
            return new EpochDecision(EpochAction.Over, "nobody trains the run");
        }

        var (wanted, key) = holders.Count > 0 ? (job.MinWorkers, "min_workers") : (job.StartWorkers, job.StartWorkers > job.MinWorkers ? "start_workers" : "min_workers");
        if (Below(wanted, key, candidates) is { } below)
        {
            return below;
        }

        // One that was killed a moment ago would be a member, and the epoch break: it is back at once, or lost.
        if (ChooseMembers(job).Find(w => w.OpenCalls == 0 && (!isBeginning || Remaining(w.LastSeen, timings.SuspectSilence) is null)) is { } silent)
        {
            return Wait($"{silent.Id} has no call open; it is waited for until it has, or is lost", Remaining(silent.LastSeen, timings.SuspectSilence));
        }

        var settled = job.ExpectedWorkers.Count > 0 && missing.Count == 0;
        if (!settled && JoinQuiet(candidates) is { } quiet)
        {
            return Wait("more workers may be joining", quiet);
        }

        return Form(job, job.ExpectedWorkers.Count > 0 ? "the coordinator was restarted" : "the run begins");
    }

    /// <summary>There was an epoch: it goes on unless a member is gone, a member says that it broke, or somebody wants to join.</summary>
    private EpochDecision DecideNext(TrainingJob job, Epoch epoch)
    {
        var candidates = Candidates(job);
        var present = epoch.Members.Where(_workers.ContainsKey).Select(id => _workers[id]).ToList();
        var failed = present.Where(w => w.Failure?.Epoch == epoch.Number).ToList();
        if (failed.Select(w => w.Failure!.Fatal).FirstOrDefault(f => f is not null) is { } fatal)
        {
            return new EpochDecision(EpochAction.Fail, fatal.Message) { Error = fatal };
        }

        if (failed.Count > 0)
        {
            epoch.BrokenAt ??= failed.Min(w => w.LastBeat);
            if (DecideBroken(epoch, present, failed) is { } wait)
            {
                return wait;
            }

            candidates = Candidates(job);
        }

        // With the smallest micro-batch, twice as often: nothing is left to be tried.
        if (_memoryKillsHere / KillsToReduce > 1 + Math.Log2(Math.Max(1, job.Spec.Training?.MicroBatchSize ?? 1)))
        {
            var error = new RunError
            {
                Reason = ErrorReasons.OutOfMemory,
                Message = $"Workers were killed for memory {_memoryKillsHere} times without getting further, at last with micro-batches of one sequence. Give them more memory and resume the run, or create one with a smaller model or model.context.",
            };
            return new EpochDecision(EpochAction.Fail, error.Message) { Error = error };
        }

        var leaving = present.Where(w => w.Leaving).ToList();
        var broken = failed.Count > 0 || epoch.Lost.Count > 0 || leaving.Count > 0;
        if (!broken)
        {
            return DecideJoin(job, epoch);
        }

        if (candidates.Count == 0)
        {
            // One that leaves alone writes a checkpoint and reports it: the epoch is still its own.
            return _cancel && present.Count == 0
                ? new EpochDecision(EpochAction.Over, "nobody trains the run")
                : Wait("all workers are gone; the run waits for one", null) with { IsAwaitingWorkers = true };
        }

        if (_cancel && candidates.All(w => w.StepOf(job) < 0))
        {
            return new EpochDecision(EpochAction.Over, "nobody trains the run");
        }

        if (Below(job.MinWorkers, "min_workers", candidates) is { } below)
        {
            return below;
        }

        if (present.Count == 0 && JoinQuiet(candidates) is { } quiet)
        {
            return Wait("more workers may be joining", quiet);
        }

        if (epoch.BrokenAt is { } brokenAt && Remaining(brokenAt, Backoff()) is { } pause)
        {
            return Wait($"epochs break without a step; the next one begins after a pause", pause);
        }

        var reason = epoch.Lost.Count > 0 ? $"{string.Join(", ", epoch.Lost)} {(epoch.Lost.Count == 1 ? "is" : "are")} lost"
            : leaving.Count > 0 ? $"{string.Join(", ", leaving.Select(w => w.Id))} left"
            : $"the epoch before broke ({CauseOf(failed)})";
        return Form(job, reason);
    }

    /// <summary>Waits below the minimum of workers; those that are there keep their state. A cancellation needs only one, to write a checkpoint.</summary>
    private EpochDecision? Below(int wanted, string key, List<EpochWorker> candidates) => candidates.Count >= (_cancel ? 1 : wanted) ? null
        : Wait($"{candidates.Count} of {wanted} {(wanted == 1 ? "worker is" : "workers are")} there; the run waits (training.{key})", null) with { IsAwaitingWorkers = true };

    /// <summary>Waits for what the other members say of a failure; who was suspected and stays silent is lost. Null when all is said.</summary>
    private EpochDecision? DecideBroken(Epoch epoch, List<EpochWorker> present, List<EpochWorker> failed)
    {
        var brokenAt = epoch.BrokenAt!.Value;
        var window = Remaining(brokenAt, timings.FailureWindow);
        var suspects = failed.Select(w => w.Failure!.SuspectWorkerId).Where(id => id.Length > 0).ToHashSet(StringComparer.Ordinal);
        TimeSpan? recheck = null;
        foreach (var member in present.Except(failed))
        {
            var suspected = suspects.Contains(member.Id);
            if (suspected && member.LastBeat > brokenAt && !member.Leaving)
            {
                continue;
            }

            // A killed process has its call closed by the system, and opens none.
            var silence = member.OpenCalls > 0 ? (TimeSpan?)null : Remaining(member.LastSeen, timings.SuspectSilence);
            var gone = suspected && member.OpenCalls == 0 && silence is null;
            if (gone || (suspected && window is null))
            {
                var witness = failed.First(w => w.Failure!.SuspectWorkerId == member.Id);
                Lose(member, $"its connection failed, as {witness.Id} saw it ({witness.Failure!.Message.TrimEnd('.')})");
            }
            else if (window is not null)
            {
                recheck = Sooner(recheck, suspected ? Sooner(window, silence) : window);
            }
        }

        return recheck is null ? null : Wait("the members of a broken epoch have time to check in", recheck);
    }

    private EpochDecision DecideJoin(TrainingJob job, Epoch epoch)
    {
        var newcomers = Eligible(job).Where(w => !epoch.Members.Contains(w.Id)).ToList();
        if (newcomers.Count == 0 || _cancel)
        {
            return Wait("all is well", null);
        }

        var ready = newcomers.Where(w => w.IsPreparedFor(job)).ToList();
        foreach (var newcomer in newcomers)
        {
            Prepare(job, epoch, newcomer);
        }

        return epoch.Members.Count >= job.MaxWorkers ? Wait("as many workers take part as may", null)
            : ready.Count == 0 ? Wait("newcomers prepare", null)
            : JoinQuiet(ready, othersPrepare: ready.Count < newcomers.Count) is { } quiet ? Wait("more workers may be joining", quiet)
            : Form(job, $"{string.Join(", ", ready.Select(w => w.Id).Take(8))} joined");
    }

    /// <summary>Lets a worker make itself ready while the members step on: one that takes part from the next epoch on, or when a member is gone.</summary>
    private void Prepare(TrainingJob job, Epoch epoch, EpochWorker newcomer)
    {
        if (!job.HasPreparation)
        {
            if (newcomer.Assignment is not { Epoch: null })
            {
                Assign(newcomer, null);
            }
        }
        else if (newcomer.Assignment?.Epoch is not { } plan || plan.Epoch != epoch.Number)
        {
            Assign(newcomer, epoch.ToPrepare());
        }
        else if (newcomer.IsUnable && _standingBy.Add(newcomer.Id))
        {
            _notices.Add(new WorkerNotice(RunEvents.WorkerStandsBy, $"{newcomer.Id} stands by, as it cannot prepare to take part, and tries again: {newcomer.Failure?.Message}"));
        }
    }

    private EpochDecision Form(TrainingJob job, string reason) =>
        new(EpochAction.Form, reason) { NeedsOrigin = ChooseMembers(job).All(w => w.StepOf(job) < 0) };

    /// <summary>What broke an epoch, as those tell it who saw a peer fail; the others were only told that it broke.</summary>
    private static string CauseOf(List<EpochWorker> failed)
    {
        var witnesses = failed.Where(w => w.Failure!.SuspectWorkerId.Length > 0).ToList();
        return string.Join("; ", (witnesses.Count > 0 ? witnesses : failed[..1]).Take(4).Select(w => $"{w.Id}: {w.Failure!.Message.TrimEnd('.')}"));
    }

    private static EpochDecision Wait(string reason, TimeSpan? recheck) => new(EpochAction.Wait, reason) { Recheck = recheck };

    /// <summary>Loses workers that are silent for too long; returns when the next one may be.</summary>
    private TimeSpan? LoseSilent()
    {
        TimeSpan? next = null;
        foreach (var worker in _workers.Values.Where(w => w.OpenCalls == 0).ToList())
        {
            if (Remaining(worker.LastSeen, timings.Lost) is { } left)
            {
                next = Sooner(next, left);
            }
            else if (worker.Leaving)
            {
                _workers.Remove(worker.Id);
                if (_epoch?.Members.Contains(worker.Id) == true)
                {
                    _epoch.Lost.Add(worker.Id);
                    _notices.Add(new WorkerNotice(RunEvents.WorkerLeft, $"{worker.Id} left."));
                }
            }
            else
            {
                Lose(worker, $"it sent no heartbeat for {timings.Lost.TotalSeconds:0.#} s");
            }
        }

        return next;
    }

    /// <summary>How long the youngest of some workers is to be waited on, in case others come with it.</summary>
    /// <param name="workers">Those that may be members.</param>
    /// <param name="othersPrepare">Others may be ready soon.</param>
    private TimeSpan? JoinQuiet(List<EpochWorker> workers, bool othersPrepare = false) =>
        Remaining(workers.Max(w => othersPrepare ? Math.Max(w.JoinedAt, w.PreparedAt) : w.JoinedAt), timings.JoinDebounce);

    private TimeSpan Backoff()
    {
        var pause = _brokenEpochs < 2 ? TimeSpan.Zero : TimeSpan.FromSeconds(0.25 * Math.Pow(2, Math.Min(_brokenEpochs - 2, 10)));
        return pause < timings.MaxBackoff ? pause : timings.MaxBackoff;
    }

    /// <summary>What is left of a time span that began at a timestamp; null when nothing is.</summary>
    private TimeSpan? Remaining(long since, TimeSpan span)
    {
        var left = span - time.GetElapsedTime(since);
        return left > TimeSpan.Zero ? left : null;
    }

    private static TimeSpan? Sooner(TimeSpan? a, TimeSpan? b) => a is null ? b : b is null || a < b ? a : b;
}
