using System.Diagnostics;
using System.Globalization;
using System.Text;
using LlmPipeline.Trainer.Collectives;

namespace LlmPipeline.Trainer.Worker;

/// <summary>
/// Members whose state is behind, or differs. They take over the position of another member at once, and are members like all others
/// from then on, with an empty share: the position and what is exchanged determine every decision. Parameters and optimizer state
/// arrive meanwhile, and the updates of the steps that pass are kept for them.
/// </summary>
internal sealed partial class TrainingLoop
{
    // Slots of the position bucket, after the common ones.
    private const int PositionBytes = FirstOwn;

    // What each rank reports with a step, after the losses of the micro-batches: seconds a micro-batch, a hash (two slots).
    private const int ReportSlots = 3;

    /// <summary>Steps after which members compare their state.</summary>
    private const int HashInterval = 16;

    private const int MinDeferred = 4;

    private readonly MicroBatchShares _shares;
    private Task? _arriving;
    private TaskCompletionSource _stopArriving = new();

    /// <summary>Bytes of updates that are kept for state that is still arriving, or 4 updates if these are more. Then the others wait.</summary>
    public long MaxDeferredBytes { get; init; } = 256L << 20;

    private int ReportOf(int rank) => FirstLoss + _settings.MicroBatches + (ReportSlots * rank);

    /// <summary>
    /// Brings members to the state of another one, which holds the others up for a copy in its memory. All members take part.
    /// </summary>
    /// <param name="behind">The ranks that take over.</param>
    /// <param name="source">The rank whose state they take.</param>
    /// <param name="step">Steps done in it.</param>
    private Votes CatchUp(bool[] behind, int source, long step)
    {
        StopArriving();
        var isSource = _place.Rank == source;
        var position = isSource ? Encoding.UTF8.GetBytes(State.ToJson()) : [];
        if (isSource)
        {
            _replica.Serve();
        }

        var announcement = new ExchangeBuffer(0, FirstOwn + 1);
        announcement.Clear();
        AddVotes(announcement, validate: !behind[_place.Rank] && State.ValidationStep != State.Step);
        announcement.AddCount(PositionBytes, position.Length);
        Exchange(step, Buckets.Position, announcement);

        var length = announcement.Count(PositionBytes);
        var words = new ExchangeBuffer(0, (length + 3) / 4);
        words.Clear();
        for (var i = 0; i < position.Length; i++)
        {
            words.AddCount(i / 4, position[i] << (8 * (i % 4)));
        }

        Exchange(step, Buckets.Position, words);
        var bytes = new byte[length];
        for (var i = 0; i < length; i++)
        {
            bytes[i] = (byte)(words.Count(i / 4) >> (8 * (i % 4)));
        }

        var state = TrainerState.Parse(Encoding.UTF8.GetString(bytes), $"The position of rank {source}");
        if (behind[_place.Rank])
        {
            _replica.BeginArrival(state);
            _stopArriving = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            var stop = _stopArriving.Task;
            _arriving = Task.Run(() => ArriveAsync(source, step, stop));
            foreach (var copied in LastMetrics())
            {
                // Rank 0 of the epoch before may have taken its report of this step with it.
                _replica.Remember(copied);
            }

            StepDone?.Invoke();
        }
        else
        {
            _replica.State = State with { TrainSeconds = state.TrainSeconds };
        }

        return ReadVotes(announcement);
    }

    /// <summary>
    /// Takes state that has arrived into use, and waits for it when too many updates are kept for it, or when it is needed.
    /// </summary>
    /// <exception cref="RingBrokenException">It cannot arrive any more.</exception>
    private void TakeArrived(bool isNeeded = false)
    {
        if (_arriving is not { } arriving)
        {
            return;
        }

        var start = Stopwatch.GetTimestamp();
        var most = Math.Max(MaxDeferredBytes, (long)MinDeferred * _replica.Model.Parameters.Length * sizeof(float));
        while (!arriving.IsCompleted && (isNeeded || _replica.DeferredBytes >= most))
        {
            Task.WaitAny([arriving], TimeSpan.FromMilliseconds(100));
            if (_place.Ring is GrpcRingTransport { IsBroken: true } broken)
            {
                throw broken.Broken();
            }

            if (_control.GiveUp(Stopwatch.GetElapsedTime(start)))
            {
                throw new RingBrokenException("The epoch is over before the state has arrived.");
            }
        }

        if (arriving.IsCompleted)
        {
            arriving.GetAwaiter().GetResult();
            _arriving = null;
            _replica.CompleteArrival();
            StepDone?.Invoke();
        }
    }

    private async Task ArriveAsync(int source, long step, Task stop)
    {
        using var cancel = new CancellationTokenSource();
        var copying = _copy(source, step, cancel.Token);
        await Task.WhenAny(copying, stop);
        if (!copying.IsCompleted)
        {
            await cancel.CancelAsync();
        }

        await copying;
    }

    /// <summary>Lets go of state that has not arrived yet: nobody writes into the replica any more.</summary>
    private void StopArriving()
    {
        _stopArriving.TrySetResult();
        _arriving?.ContinueWith(static _ => { }, CancellationToken.None, TaskContinuationOptions.None, TaskScheduler.Default).Wait();
        _arriving = null;
    }

    /// <summary>What this member tells the others with the exchange of a step.</summary>
    private void AddReport(int computed, TimeSpan elapsed)
    {
        var own = ReportOf(_place.Rank);
        _gradients.Set(own, _arriving is not null ? MicroBatchShares.Arriving : computed == 0 ? 0 : Math.Max(1e-9f, (float)(elapsed.TotalSeconds / computed)));
        if (_place.Size > 1 && _arriving is null && State.Step % HashInterval == 0)
        {
            _gradients.Set(own + 1, BitConverter.UInt64BitsToDouble(_replica.Hash()));
        }
    }

    /// <summary>Takes what the members told with a step; the ranks whose state differs from that of the others, or null.</summary>
    private bool[]? ReadReports(long step)
    {
        Span<float> reports = stackalloc float[_place.Size];
        for (var rank = 0; rank < _place.Size; rank++)
        {
            reports[rank] = _gradients.Single(ReportOf(rank));
        }

        _shares.Observe(step, reports);
        if (!_shares.AnyArriving)
        {
            _replica.StopServing();
        }

        if (_place.Size == 1 || State.Step % HashInterval != 0)
        {
            return null;
        }

        return Differing([.. Enumerable.Range(0, _place.Size).Select(rank => BitConverter.DoubleToUInt64Bits(_gradients.Double(ReportOf(rank) + 1)))]);
    }

    /// <summary>The ranks with another hash than most that have one; null for none.</summary>
    private bool[]? Differing(ulong[] hashes)
    {
        var most = Enumerable.Range(0, _place.Size).Where(rank => !_shares.IsArriving(rank)).GroupBy(rank => hashes[rank])
            .OrderByDescending(g => g.Count()).ThenBy(g => g.Min()).First().Key;
        bool[] differ = [.. Enumerable.Range(0, _place.Size).Select(rank => !_shares.IsArriving(rank) && hashes[rank] != most)];
        return differ.Contains(true) ? differ : null;
    }

    /// <summary>The step is void; members whose state differs copy it from one of the majority (of two members, from rank 0).</summary>
    private void Heal(long step, bool[] differ)
    {
        bool[] behind = [.. differ.Select((isOther, rank) => isOther || _shares.IsArriving(rank))];
        var source = Array.IndexOf(behind, false);
        Tell(RunEventKinds.ReplicaHealed, string.Create(CultureInfo.InvariantCulture,
            $"Before step {step} the weights or moments of {string.Join(", ", Enumerable.Range(0, _place.Size).Where(rank => differ[rank]).Select(_place.NameOf))} differed from those of the other workers, which they never should: they are copied from {_place.NameOf(source)}, and the step is taken again. Since step {Math.Max(1, step - HashInterval)} or later its gradients may have been wrong. Check the memory of that machine."));
        CatchUp(behind, source, State.Step);
        _shares.Begin(_settings.MicroBatches, behind);
    }
}
