using LlmPipeline.Workers.V1;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary>Heartbeats: how workers come to be known, and how they learn what to do.</summary>
internal sealed partial class EpochManager
{
    /// <summary>Takes a heartbeat; the ticket holds the answer and has to be disposed when the call ends.</summary>
    public HeartbeatTicket Enter(HeartbeatRequest request)
    {
        HeartbeatTicket ticket;
        lock (_lock)
        {
            var now = time.GetTimestamp();
            if (!_workers.TryGetValue(request.WorkerId, out var worker))
            {
                worker = new EpochWorker(request.WorkerId, now);
                _workers.Add(request.WorkerId, worker);
                NoteMemory(request);

                // The system closes the calls of a process that ends; one that lives has a call open.
                foreach (var old in _workers.Values.Where(w => w != worker && w.Address == request.Address && w.OpenCalls == 0).ToList())
                {
                    Lose(old, $"{request.WorkerId} was started in its place, at {request.Address}");
                }
            }

            worker.Beat(request, now);
            worker.Judge(_job, _epoch?.Members.Contains(worker.Id) == true, now);
            if (worker.Assignment is null)
            {
                ReleaseIdle();
            }

            ticket = new HeartbeatTicket(this, worker);
        }

        _changed.Set();
        return ticket;
    }

    /// <summary>A process that takes the place of another in its control group knows whether that one was killed for memory.</summary>
    private void NoteMemory(HeartbeatRequest request)
    {
        if (!request.HasMemoryKills)
        {
            return;
        }

        string[] places = [request.Address, request.WorkerId[..Math.Max(0, request.WorkerId.LastIndexOf('-'))]];
        foreach (var place in places.Where(p => p.Length > 0))
        {
            if (_memoryKills.TryGetValue(place, out var before) && before.Id != request.WorkerId && request.MemoryKills > before.Kills)
            {
                _memoryKillsHere += _epoch?.Members.Contains(before.Id) == true ? 1 : 0;
                _notices.Add(new WorkerNotice(RunEvents.WorkerOutOfMemory,
                    $"{before.Id} was killed for memory: its control group counts {request.MemoryKills - before.Kills} such {(request.MemoryKills - before.Kills == 1 ? "kill" : "kills")} since it was started, says {request.WorkerId}, which took its place. Give the worker more memory, or create a run with a smaller model or model.context. After {KillsToReduce} kills without getting further, micro-batches are halved."));
                break;
            }
        }

        foreach (var place in places.Where(p => p.Length > 0))
        {
            _memoryKills[place] = (request.WorkerId, request.MemoryKills);
        }
    }

    private void End(EpochWorker worker)
    {
        lock (_lock)
        {
            worker.EndBeat(time.GetTimestamp());
            if (worker is { Leaving: true, OpenCalls: 0 } && _epoch?.Members.Contains(worker.Id) != true)
            {
                _workers.Remove(worker.Id);
            }
        }

        _changed.Set();
    }

    private (Assignment? Assignment, Task Changed) CurrentOf(EpochWorker worker)
    {
        lock (_lock)
        {
            return (worker.Assignment, worker.Changed);
        }
    }

    /// <summary>Waits for news for a worker.</summary>
    private async Task<Assignment?> WaitForNewsAsync(EpochWorker worker, long seen, TimeSpan wait, CancellationToken cancellationToken)
    {
        var start = time.GetTimestamp();
        while (true)
        {
            var (assignment, changed) = CurrentOf(worker);
            if ((assignment is not null && assignment.Version != seen)
                || Remaining(start, wait) is not { } left || cancellationToken.IsCancellationRequested)
            {
                return assignment;
            }

            try
            {
                await changed.WaitAsync(left, time, cancellationToken);
            }
            catch (Exception exception) when (exception is TimeoutException or OperationCanceledException)
            {
                return CurrentOf(worker).Assignment;
            }
        }
    }

    /// <summary>A heartbeat that is being held.</summary>
    internal sealed class HeartbeatTicket(EpochManager manager, EpochWorker worker) : IDisposable
    {
        /// <summary>The assignment as soon as it differs from the one that the worker has seen; whatever there is when the wait ends.</summary>
        public Task<Assignment?> WaitAsync(long seen, TimeSpan wait, CancellationToken cancellationToken) =>
            manager.WaitForNewsAsync(worker, seen, wait, cancellationToken);

        /// <inheritdoc/>
        public void Dispose() => manager.End(worker);
    }
}
