using LlmPipeline.Models;
using LlmPipeline.Runs.V1;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Trainer.Collectives;

namespace LlmPipeline.Trainer.Worker;

/// <summary>A worker's place in an epoch.</summary>
/// <param name="Ring">The ring; null for the only member.</param>
/// <param name="Rank">This worker's rank.</param>
/// <param name="Size">Number of members.</param>
/// <param name="Members">Ids of the members, by rank; null where they have none.</param>
internal sealed record RingPlace(IRingTransport? Ring, int Rank, int Size, IReadOnlyList<string>? Members = null)
{
    /// <summary>A member, for a person.</summary>
    public string NameOf(int rank) => Members?[rank] ?? $"rank {rank}";
}

/// <summary>
/// Steps a replica together with the other members of an epoch. All members go through the same steps, validations and
/// decisions in the same order; what they decide on travels in the slots of the all-reduce. A step counts once or not at all:
/// the replica changes only after its exchange has completed.
/// </summary>
internal sealed partial class TrainingLoop
{
    // Slots of the entry and gradient buckets, before what is particular to each.
    private const int StopVotes = 0;
    private const int LeaveVotes = 1;
    private const int ValidateVotes = 2;
    private const int SecondsOfRank0 = 3; // two slots
    private const int FirstOwn = 5;

    private readonly Replica _replica;
    private readonly RingPlace _place;
    private readonly RingAllReduce? _allReduce;
    private readonly ILoopControl _control;
    private readonly IProgressSink _progress;
    private readonly TrainerMetrics _metrics;
    private readonly TrainingTrace _trace;
    private readonly ILogger _logger;
    private readonly ExchangeBuffer _entry;
    private readonly Func<int, long, CancellationToken, Task> _copy;
    private readonly bool _onHost;
    private readonly StepClock _time = new(TimeProvider.System);
    private StepMetrics? _timed;
    private bool _stepped = true;
    private TrainingSettings _settings;
    private ITrainingData _data;
    private ExchangeBuffer _gradients = null!;
    private ExchangeFormat _format;
    private long _clock;
    private double _secondsBefore;
    private double _peakFlops;
    private double _flopsPerToken;

    /// <summary>Sets the loop up; nothing is exchanged yet.</summary>
    /// <param name="replica">What is trained; its step is negative when it is empty.</param>
    /// <param name="settings">The run.</param>
    /// <param name="data">Its ids.</param>
    /// <param name="place">This worker in the epoch.</param>
    /// <param name="onHost">The network computes on the host's buffers.</param>
    /// <param name="copy">Fills parameters and optimizer state from what a rank serves of a step, while steps go on.</param>
    /// <param name="control">What the worker wants.</param>
    /// <param name="progress">Takes reports of rank 0.</param>
    /// <param name="checkpoints">Takes checkpoints of rank 0.</param>
    /// <param name="metrics">Instruments.</param>
    /// <param name="trace">Spans.</param>
    /// <param name="logger">Log.</param>
    public TrainingLoop(
        Replica replica, TrainingSettings settings, ITrainingData data, RingPlace place, bool onHost, Func<int, long, CancellationToken, Task> copy,
        ILoopControl control, IProgressSink progress, ICheckpointStore checkpoints, TrainerMetrics metrics, TrainingTrace trace, ILogger logger)
    {
        (_replica, _settings, _data, _place, _onHost, _copy) = (replica, settings, data, place, onHost, copy);
        (_control, _progress, _checkpoints, _metrics, _trace, _logger) = (control, progress, checkpoints, metrics, trace, logger);
        _writer = new CheckpointWriter(checkpoints, progress, metrics, trace, logger);
        _allReduce = place.Ring is null ? null : new RingAllReduce(place.Ring);
        _shares = new MicroBatchShares(place.Size, settings.Rebalance);
        _entry = new ExchangeBuffer(0, FirstOwn + (EntrySlots * place.Size));
        replica.Model.LabelSmoothing = settings.LabelSmoothing;
        if (settings.Patience > 0 && data.ValidationSequences == 0)
        {
            throw new FatalTrainingException(ErrorReasons.InvalidSpec,
                $"training.patience is {settings.Patience}, but the dataset has nothing to validate on. Give its split a validation part, or set training.patience to 0.");
        }
    }

    /// <summary>Called after each step.</summary>
    public Action? StepDone { get; init; }

    /// <summary>Makes the replica what it was before the first step.</summary>
    public Func<TrainerState>? Begin { get; init; }

    /// <summary>Writes the texts that belong to a validation; null for none.</summary>
    public Func<IReadOnlyList<TextSample>>? WriteSamples { get; init; }

    /// <summary>Most sequences of a micro-batch in this epoch, as the system killed members for memory; 0 for any.</summary>
    public int MaxMicroBatchSize { get; init; }

    /// <summary>Floating-point operations a second that this worker's device does at most in a precision; null when it is not known.</summary>
    public Func<Precision, double>? Ceiling { get; init; }

    private TrainerState State => _replica.State;

    /// <summary>Runs until training is over or the epoch is left.</summary>
    /// <exception cref="RingBrokenException">A member is lost; the replica is as it was after its last whole step.</exception>
    /// <exception cref="FatalTrainingException">The run cannot go on.</exception>
    public LoopOutcome Run()
    {
        try
        {
            return Steps();
        }
        finally
        {
            if (_replica.LocalRound is { } unfinished)
            {
                unfinished.Spent ??= _time.Ticks();
            }

            // A checkpoint on its way is finished before somebody else writes one.
            _writer.Finish(_replica);
            StopArriving();
            _replica.AbandonArrival();
            _replica.StopServing();
        }
    }

    private LoopOutcome Steps()
    {
        _metrics.EpochStarted(_place.Size);
        var votes = Enter();
        SettlePrecision();
        _peakFlops = Ceiling?.Invoke(_replica.Model.Precision) ?? 0;
        _flopsPerToken = _peakFlops > 0 ? _replica.Model.FlopsPerToken(_settings.Context) : 0;
        if (_place.Rank == 0)
        {
            // Before the steps: they go back in the record, too, before any of them comes.
            _progress.Remembered(_replica.Events, _replica.RollbackStep);
            foreach (var metrics in _replica.History.Count > 0 ? _replica.History : LastMetrics())
            {
                _progress.Step(metrics, State.TrainSeconds);
            }
        }

        StepMetrics? done = null;
        _time.Lap(StepPhase.Other);
        _time.Restart();
        while (true)
        {
            var last = State.Step >= _settings.Steps || votes.Stop || (_settings.MaxSeconds > 0 && State.TrainSeconds >= _settings.MaxSeconds);
            if (ValidationDue(last, votes.Validate))
            {
                done ??= LastMetrics() is [var reported] ? reported : null;
                if (Validate(done) is { } broken)
                {
                    GoBack(State.Step, broken, State.TrainSeconds);
                    (votes, done, _timed, _stepped) = (votes with { Validate = State.ValidationStep != State.Step }, null, null, false);
                    continue;
                }
            }

            last |= _settings.Patience > 0 && State.ValidationsWithoutImprovement >= _settings.Patience;
            var leaving = votes.Leave && !last;
            if (CheckpointDue(last, leaving))
            {
                // The end is told of before its checkpoint, which may take its time.
                Report(last ? done : null);
                if (!Checkpoint(last))
                {
                    // Training is over when its checkpoint is durable: another worker, or this one anew, writes it.
                    return LoopOutcome.Left;
                }
            }

            Report(done);
            TakeArrived();
            if (last)
            {
                if (State.Step == 0 && !votes.Stop)
                {
                    throw new FatalTrainingException(ErrorReasons.LossNotFinite,
                        "Training went back to its beginning, and then training.max_seconds was over: there is nothing to keep. Lower optimizer.learning_rate or set optimizer.clip_norm, in another run.");
                }

                if (_place.Rank == 0)
                {
                    _progress.Finished(State.TrainSeconds);
                }

                return LoopOutcome.Finished;
            }

            if (leaving)
            {
                return LoopOutcome.Left;
            }

            // What belongs to no step that was done is part of the next one.
            if (done is not null)
            {
                _time.Restart();
            }

            try
            {
                (votes, done) = _settings.Local is null ? Step() : Round(_settings.Local);
            }
            catch (StepAbandonedException)
            {
                return LeaveWithoutStep();
            }

            (_timed, _stepped) = (done, done is not null);
            StepDone?.Invoke();
            _trace.Continue(State.Step);
            _time.Lap(StepPhase.Other);
        }
    }

    /// <summary>The process has to exit before the step can be done. The others repeat it; one that is alone writes a checkpoint of the step before.</summary>
    private LoopOutcome LeaveWithoutStep()
    {
        _place.Ring?.Abort();
        if (_place.Size == 1 && State.Step > 0)
        {
            Checkpoint(last: false);
        }

        return LoopOutcome.Left;
    }

    private void AddVotes(ExchangeBuffer buffer, bool validate)
    {
        buffer.AddCount(StopVotes, _control.StopRequested ? 1 : 0);
        buffer.AddCount(LeaveVotes, _control.LeaveRequested ? 1 : 0);
        buffer.AddCount(ValidateVotes, validate ? 1 : 0);
    }

    private static Votes ReadVotes(ExchangeBuffer buffer) =>
        new(buffer.Count(StopVotes) > 0, buffer.Count(LeaveVotes) > 0, buffer.Count(ValidateVotes) > 0);

    private readonly record struct Votes(bool Stop, bool Leave, bool Validate);

    private sealed class StepAbandonedException : Exception;
}
