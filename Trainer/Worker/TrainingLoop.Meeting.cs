using System.Diagnostics;
using System.Security.Cryptography;
using System.Text;
using LlmPipeline.Models;
using LlmPipeline.Trainer.Collectives;

namespace LlmPipeline.Trainer.Worker;

/// <summary>How an epoch begins.</summary>
internal sealed partial class TrainingLoop
{
    // Slots of the entry bucket, for each rank: its step, how often training went back, its micro-batch, its loss scale, what kind of
    // device of its own it computes on, 0 for the host.
    private const int EntrySlots = 6;

    /// <summary>
    /// Meets the other members and learns who is at which step (the plan only says what the coordinator knew). Those that are behind
    /// take over the position of the newest, and its parameters while all step on.
    /// </summary>
    private Votes Enter()
    {
        var votes = Meet(out var places);
        var newest = places.Max();
        if (newest.Step < 0)
        {
            throw new RingBrokenException($"No member of the epoch holds the state of {State.Run} that they were to begin with.");
        }

        bool[] behind = [.. places.Select(place => place != newest)];
        _secondsBefore = _entry.Double(SecondsOfRank0);
        if (behind.Contains(true))
        {
            votes = CatchUp(behind, Array.IndexOf(behind, false), newest.Step);
            _secondsBefore = State.TrainSeconds;
        }

        var devices = Enumerable.Range(0, _place.Size).Select(rank => _entry.Count(SlotOf(rank) + 5)).Distinct().ToList();
        var onDevices = !devices.Contains(0);
        _format = _settings.Local is not null ? ExchangeFormat.Exact : new ExchangeFormat(_settings.SumMode ?? (onDevices && _settings.Local is null ? SumMode.Plain : SumMode.Exact), _settings.Wire);

        // Updates on the host are the same bits everywhere; those on devices only where these are the same.
        _updatesOnDevice = onDevices && devices.Count == 1 && _format.Mode == SumMode.Plain;
        _replica.UseDevice(_updatesOnDevice);

        // Some may have learnt that a micro-batch or a loss scale was too large, when the others had not yet.
        UseMicroBatch(Enumerable.Range(0, _place.Size).Min(rank => (int)_entry.Single(SlotOf(rank) + 3)));
        var scale = Enumerable.Range(0, _place.Size).Where(rank => !behind[rank]).Min(rank => _entry.Single(SlotOf(rank) + 4));
        if (State.LossScaler is { } scaler && scale > 0 && scale < scaler.Scale)
        {
            _replica.State = State with { LossScaler = new LossScaler(scale) };
        }

        _shares.Begin(_settings.MicroBatches, behind);
        _gradients = GradientBuffer();
        _ranges = _replica.Model.GradientRanges(SmallestRange);
        _clock = Stopwatch.GetTimestamp();
        _replica.State = State with { TrainSeconds = _secondsBefore };
        while (MaxMicroBatchSize > 0 && _settings.MicroBatchSize > MaxMicroBatchSize)
        {
            ReduceMicroBatch(State.Step);
        }

        return votes;
    }

    private Votes Meet(out (long Step, int Rollbacks)[] places)
    {
        _entry.Clear();
        AddVotes(_entry, validate: State.ValidationStep != State.Step);
        var own = SlotOf(_place.Rank);
        _entry.Set(own, (double)State.Step);
        _entry.Set(own + 2, (float)State.Guard.Rollbacks);
        _entry.Set(own + 3, (float)(State.MicroBatchSize > 0 ? State.MicroBatchSize : _settings.MicroBatchSize));
        _entry.Set(own + 4, (float)(State.LossScaler?.Scale ?? 0));
        _entry.AddCount(own + 5, _onHost ? 0 : DeviceKind());
        if (_place.Rank == 0)
        {
            _entry.Set(SecondsOfRank0, State.TrainSeconds);
        }

        Exchange(-1, Buckets.Entry, _entry);
        places = [.. Enumerable.Range(0, _place.Size).Select(rank => ((long)_entry.Double(SlotOf(rank)), (int)_entry.Single(SlotOf(rank) + 2)))];
        return ReadVotes(_entry);
    }

    // Not 0.
    private static int DeviceKind() => 1 + (int)(BitConverter.ToUInt32(SHA256.HashData(Encoding.UTF8.GetBytes(TorchRuntime.DeviceFingerprint))) % (int.MaxValue - 1));

    private static int SlotOf(int rank) => FirstOwn + (EntrySlots * rank);
}
