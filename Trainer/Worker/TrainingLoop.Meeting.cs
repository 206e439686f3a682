using System.Diagnostics;
using LlmPipeline.Trainer.Collectives;

namespace LlmPipeline.Trainer.Worker;

/// <summary>How an epoch begins.</summary>
internal sealed partial class TrainingLoop
{
    // Slots of the entry bucket, for each rank: its step, how often training went back, its micro-batch, its loss scale.
    private const int EntrySlots = 5;

    /// <summary>
    /// Meets the other members and learns who is at which step. Those that are behind copy the state of the newest (the plan
    /// only says what the coordinator knew); then all meet again.
    /// </summary>
    private Votes Enter()
    {
        var votes = Meet(-1, out var places);
        var newest = places.Max();
        if (newest.Step < 0)
        {
            throw new RingBrokenException($"No member of the epoch holds the state of {State.Run} that they were to begin with.");
        }

        if (places.Any(place => place != newest))
        {
            if (places[_place.Rank] != newest)
            {
                _replica.State = State with { Step = -1 };
                _replica.State = _copy(Array.IndexOf(places, newest), newest.Step);
                foreach (var copied in LastMetrics())
                {
                    // Rank 0 of the epoch before may have taken its report of this step with it.
                    _replica.Remember(copied);
                }

                StepDone?.Invoke();
            }

            votes = Meet(newest.Step, out places);
            if (places.Any(place => place != newest))
            {
                throw new RingBrokenException($"Members of the epoch are at different steps: {string.Join(", ", places.Select(place => place.Step))}.");
            }
        }

        // Some may have learnt that a micro-batch or a loss scale was too large, when the others had not yet.
        UseMicroBatch(Enumerable.Range(0, _place.Size).Min(rank => (int)_entry.Single(SlotOf(rank) + 3)));
        var scale = Enumerable.Range(0, _place.Size).Min(rank => _entry.Single(SlotOf(rank) + 4));
        if (State.LossScaler is { } scaler && scale > 0 && scale < scaler.Scale)
        {
            _replica.State = State with { LossScaler = new LossScaler(scale) };
        }

        _clock = Stopwatch.GetTimestamp();
        _secondsBefore = _entry.Double(SecondsOfRank0);
        _replica.State = State with { TrainSeconds = _secondsBefore };
        return votes;
    }

    private Votes Meet(long round, out (long Step, int Rollbacks)[] places)
    {
        _entry.Clear(gradients: true);
        AddVotes(_entry, validate: State.ValidationStep != State.Step);
        var own = SlotOf(_place.Rank);
        _entry.Set(own, (double)State.Step);
        _entry.Set(own + 2, (float)State.Guard.Rollbacks);
        _entry.Set(own + 3, (float)(State.MicroBatchSize > 0 ? State.MicroBatchSize : _settings.MicroBatchSize));
        _entry.Set(own + 4, (float)(State.LossScaler?.Scale ?? 0));
        if (_place.Rank == 0)
        {
            _entry.Set(SecondsOfRank0, State.TrainSeconds);
        }

        Exchange(round, Buckets.Entry, _entry);
        places = [.. Enumerable.Range(0, _place.Size).Select(rank => ((long)_entry.Double(SlotOf(rank)), (int)_entry.Single(SlotOf(rank) + 2)))];
        return ReadVotes(_entry);
    }

    private static int SlotOf(int rank) => FirstOwn + (EntrySlots * rank);
}
