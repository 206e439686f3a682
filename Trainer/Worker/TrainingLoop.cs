using System.Diagnostics;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using LlmPipeline.Models;
using LlmPipeline.Runs.V1;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Trainer.Collectives;
using LlmPipeline.Trainer.Optimizers;

namespace LlmPipeline.Trainer.Worker;

/// <summary>A worker's place in an epoch.</summary>
/// <param name="Ring">The ring; null for the only member.</param>
/// <param name="Rank">This worker's rank.</param>
/// <param name="Size">Number of members.</param>
internal sealed record RingPlace(IRingTransport? Ring, int Rank, int Size);

/// <summary>
/// Steps a replica together with the other members of an epoch. All members go through the same steps, validations and
/// decisions in the same order; what they decide on travels in the slots of the all-reduce. A step counts once or not at all:
/// the replica changes only after its exchange has completed.
/// </summary>
internal sealed partial class TrainingLoop
{
    // Slots of the entry and gradient buckets, before the losses of the micro-batches.
    private const int StopVotes = 0;
    private const int LeaveVotes = 1;
    private const int ValidateVotes = 2;
    private const int SecondsOfRank0 = 3; // two slots
    private const int OverflowVotes = 5;
    private const int FirstLoss = 6;
    private const int FirstStep = 5; // of the entry bucket: two slots a rank

    private readonly Replica _replica;
    private readonly TrainingSettings _settings;
    private readonly ITrainingData _data;
    private readonly RingPlace _place;
    private readonly RingAllReduce? _allReduce;
    private readonly ILoopControl _control;
    private readonly IProgressSink _progress;
    private readonly ICheckpointStore _checkpoints;
    private readonly TrainerMetrics _metrics;
    private readonly TrainingTrace _trace;
    private readonly ILogger _logger;
    private readonly ExchangeBuffer _gradients;
    private readonly ExchangeBuffer _entry;
    private readonly Func<int, long, TrainerState> _copy;
    private readonly bool _onHost;
    private ExchangeBuffer? _validation;
    private long _clock;
    private double _secondsBefore;

    /// <summary>Sets the loop up; nothing is exchanged yet.</summary>
    /// <param name="replica">What is trained; its step is negative when it is empty.</param>
    /// <param name="settings">The run.</param>
    /// <param name="data">Its ids.</param>
    /// <param name="place">This worker in the epoch.</param>
    /// <param name="onHost">The network computes on the host's buffers.</param>
    /// <param name="copy">Fills the replica from a rank that is at a step.</param>
    /// <param name="control">What the worker wants.</param>
    /// <param name="progress">Takes reports of rank 0.</param>
    /// <param name="checkpoints">Takes checkpoints of rank 0.</param>
    /// <param name="metrics">Instruments.</param>
    /// <param name="trace">Spans.</param>
    /// <param name="logger">Log.</param>
    public TrainingLoop(
        Replica replica, TrainingSettings settings, ITrainingData data, RingPlace place, bool onHost, Func<int, long, TrainerState> copy,
        ILoopControl control, IProgressSink progress, ICheckpointStore checkpoints, TrainerMetrics metrics, TrainingTrace trace, ILogger logger)
    {
        (_replica, _settings, _data, _place, _onHost, _copy) = (replica, settings, data, place, onHost, copy);
        (_control, _progress, _checkpoints, _metrics, _trace, _logger) = (control, progress, checkpoints, metrics, trace, logger);
        _allReduce = place.Ring is null ? null : new RingAllReduce(place.Ring);
        _entry = new ExchangeBuffer(0, FirstStep + (2 * place.Size));
        _gradients = replica.GradientBuffer(FirstLoss + settings.MicroBatches);
        replica.Model.Parameters.ZeroGradients();
        replica.Model.LabelSmoothing = settings.LabelSmoothing;
        if (settings.Patience > 0 && data.ValidationSequences == 0)
        {
            throw new FatalTrainingException(ErrorReasons.InvalidSpec,
                $"training.patience is {settings.Patience}, but the dataset has nothing to validate on. Give its split a validation part, or set training.patience to 0.");
        }
    }

    private TrainerState State => _replica.State;

    /// <summary>Called after each step.</summary>
    public Action? StepDone { get; init; }

    /// <summary>Runs until training is over or the epoch is left.</summary>
    /// <exception cref="RingBrokenException">A member is lost; the replica is as it was after its last whole step.</exception>
    /// <exception cref="FatalTrainingException">The run cannot go on.</exception>
    public LoopOutcome Run()
    {
        _metrics.EpochStarted(_place.Size);
        var votes = Enter();
        SettlePrecision();
        if (_place.Rank == 0)
        {
            foreach (var metrics in _replica.History.Count > 0 ? _replica.History : LastMetrics())
            {
                _progress.Step(metrics, State.TrainSeconds);
            }
        }

        StepMetrics? done = null;
        while (true)
        {
            var last = State.Step >= _settings.Steps || votes.Stop || (_settings.MaxSeconds > 0 && State.TrainSeconds >= _settings.MaxSeconds);
            if (ValidationDue(last, votes.Validate))
            {
                var loss = Validate();
                done ??= LastMetrics() is [var reported] ? reported : null;
                if (done is not null)
                {
                    done.ValidationLoss = loss;
                    Remember(done);
                }
            }

            last |= _settings.Patience > 0 && State.ValidationsWithoutImprovement >= _settings.Patience;
            if (done is not null && _place.Rank == 0)
            {
                _progress.Step(done, State.TrainSeconds);
            }

            var leaving = votes.Leave && !last;
            if (_place.Rank == 0 && State.Step > 0 && (last || State.Step % _settings.CheckpointInterval == 0 || (leaving && _control.Exiting && _place.Size == 1)))
            {
                SaveCheckpoint(last);
            }

            if (last)
            {
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

            (votes, done) = Step();
            StepDone?.Invoke();
            _trace.Continue(State.Step);
        }
    }

    /// <summary>
    /// Meets the other members and learns who is at which step. Those that are behind copy the state of the newest (the plan
    /// only says what the coordinator knew); then all meet again.
    /// </summary>
    private Votes Enter()
    {
        var votes = Meet(-1, out var steps);
        var newest = steps.Max();
        if (newest < 0)
        {
            throw new RingBrokenException($"No member of the epoch holds the state of {State.Run} that they were to begin with.");
        }

        if (steps.Any(step => step != newest))
        {
            if (State.Step != newest)
            {
                _replica.State = State with { Step = -1 };
                _replica.State = _copy(Array.IndexOf(steps, newest), newest);
                foreach (var copied in LastMetrics())
                {
                    // Rank 0 of the epoch before may have taken its report of this step with it.
                    _replica.Remember(copied);
                }

                StepDone?.Invoke();
            }

            votes = Meet(newest, out steps);
            if (steps.Any(step => step != newest))
            {
                throw new RingBrokenException($"Members of the epoch are at different steps: {string.Join(", ", steps)}.");
            }
        }

        _clock = Stopwatch.GetTimestamp();
        _secondsBefore = _entry.Double(SecondsOfRank0);
        _replica.State = State with { TrainSeconds = _secondsBefore };
        return votes;
    }

    /// <summary>
    /// Lets the model compute in the precision of the run: the spec's, or, with <c>auto</c>, the one that rank 0 found faster
    /// before the first step. It lies in the state from then on, for later epochs and for those who copy or resume.
    /// </summary>
    private void SettlePrecision()
    {
        var precision = _settings.Precision ?? (State.Precision is { } decided ? Precisions.Parse(decided) : State.Step > 0 ? Precision.Fp32 : null);
        if (precision is null)
        {
            var buffer = new ExchangeBuffer(0, 1);
            if (_place.Rank == 0)
            {
                var trial = PrecisionTrial.Run(_replica.Model, _data, _settings);
                LogPrecision(_logger, State.Run, Precisions.NameOf(trial.Chosen), trial.Reason);
                buffer.AddCount(0, (int)trial.Chosen);
            }

            Exchange(State.Step, Buckets.Precision, buffer);
            precision = (Precision)buffer.Count(0);
            _clock = Stopwatch.GetTimestamp();
        }

        try
        {
            _replica.Model.Precision = precision.Value;
        }
        catch (NotSupportedException exception)
        {
            throw new FatalTrainingException(ErrorReasons.InvalidSpec, $"training.precision: {exception.Message}", exception);
        }

        _replica.State = State with
        {
            Precision = Precisions.NameOf(precision.Value),
            LossScaler = State.LossScaler ?? (precision == Precision.Fp16 ? new LossScaler() : null),
        };
    }

    private Votes Meet(long round, out long[] steps)
    {
        _entry.Clear(gradients: true);
        AddVotes(_entry, validate: State.ValidationStep != State.Step);
        _entry.Set(FirstStep + (2 * _place.Rank), (double)State.Step);
        if (_place.Rank == 0)
        {
            _entry.Set(SecondsOfRank0, State.TrainSeconds);
        }

        Exchange(round, Buckets.Entry, _entry);
        steps = [.. Enumerable.Range(0, _place.Size).Select(rank => (long)_entry.Double(FirstStep + (2 * rank)))];
        return ReadVotes(_entry);
    }

    private (Votes Votes, StepMetrics Metrics) Step()
    {
        while (true)
        {
            if (TryStep(State.LossScaler) is { } done)
            {
                return done;
            }

            // The same step again, on all workers.
            var scaler = State.LossScaler!.After(overflow: true);
            _replica.State = State with { LossScaler = scaler };
            LogOverflow(_logger, State.Run, State.Step + 1, scaler.Scale);
            if (scaler.Scale < LossScaler.SmallestScale)
            {
                throw new FatalTrainingException(ErrorReasons.LossNotFinite,
                    $"Step {State.Step + 1}: loss or gradient are not finite, whatever the loss is scaled by. Lower optimizer.learning_rate, or set training.precision to bf16 or fp32, and resume from an earlier checkpoint.");
            }
        }
    }

    /// <param name="scaler">Scales the loss; null without.</param>
    /// <returns>Null when a scaled gradient overflowed, on whichever worker; nothing has changed then.</returns>
    private (Votes Votes, StepMetrics Metrics)? TryStep(LossScaler? scaler)
    {
        var step = State.Step + 1;
        var times = new StepTimes { Start = DateTimeOffset.UtcNow };
        var parameters = _replica.Model.Parameters;
        var (begin, end) = _settings.MicroBatchesOf(_place.Rank, _place.Size);
        var lossScale = 1f / _data.PredictionsPerStep;
        var overflow = false;
        var limit = FixedPoint.LimitFor(_settings.MicroBatches);
        _gradients.Clear(gradients: begin == end);
        var mark = Stopwatch.GetTimestamp();
        for (var microBatch = begin; microBatch < end && !overflow; microBatch++)
        {
            if (_place.Ring is GrpcRingTransport { IsBroken: true } broken)
            {
                throw broken.Broken();
            }

            _data.ReadMicroBatch(step, microBatch);
            times.Data += Lap(ref mark);
            var loss = _replica.Model.AccumulateGradients(
                _data.Inputs, _data.Targets, _data.Rows, (float)(lossScale * (scaler?.Scale ?? 1)), Seeds.Derive(_settings.Seed, "dropout", step, microBatch));
            if (scaler is not null)
            {
                parameters.ScaleGradients((float)(1 / scaler.Scale));
            }

            parameters.DownloadGradients();
            overflow = !float.IsFinite(loss) || !_gradients.Add(parameters.Gradients, microBatch == begin, limit);
            if (overflow && scaler is null)
            {
                throw new FatalTrainingException(ErrorReasons.LossNotFinite,
                    $"Step {step}, micro-batch {microBatch}: the {(float.IsFinite(loss) ? "gradient is not finite or beyond" : "loss is not finite and the gradient may be beyond")} {limit}. Lower optimizer.learning_rate or set optimizer.clip_norm, and resume from an earlier checkpoint.");
            }

            if (!_onHost || overflow)
            {
                parameters.ZeroGradients();
            }

            _gradients.Set(FirstLoss + microBatch, loss);
            times.ForwardBackward += Lap(ref mark);
        }

        AddVotes(_gradients, validate: true);
        _gradients.AddCount(OverflowVotes, overflow ? 1 : 0);
        if (_place.Rank == 0)
        {
            _gradients.Set(SecondsOfRank0, _secondsBefore + Stopwatch.GetElapsedTime(_clock).TotalSeconds);
        }

        var bytesBefore = _allReduce?.TransferredBytes ?? 0;
        Exchange(step, Buckets.Gradients, _gradients);
        times.Exchange = Lap(ref mark);
        if (_gradients.Count(OverflowVotes) > 0)
        {
            return null;
        }

        var seconds = _gradients.Double(SecondsOfRank0);
        var lossSum = 0.0;
        for (var microBatch = 0; microBatch < _settings.MicroBatches; microBatch++)
        {
            lossSum += _gradients.Single(FirstLoss + microBatch);
        }

        var meanLoss = lossSum / _settings.MicroBatches;
        var norm = GradientNorm.Compute(_gradients.Gradients);
        var rate = _settings.Schedule.At(step, seconds);
        var next = State with { Step = step, TokenCount = State.TokenCount + _settings.TokensPerStep, TrainSeconds = seconds, LossScaler = scaler?.After(overflow: false) };
        _replica.Update(rate, GradientNorm.ClipFactor(norm, _settings.ClipNorm), _gradients.Gradients, next);
        times.Optimizer = Lap(ref mark);

        var metrics = new StepMetrics
        {
            Step = step,
            TrainLoss = meanLoss,
            LearningRate = rate,
            GradientNorm = norm,
            TokenCount = next.TokenCount,
            StepSeconds = times.Total.TotalSeconds,
            ExchangeSeconds = times.Exchange.TotalSeconds,
            WorkerCount = _place.Size,
            Time = Timestamp.FromDateTimeOffset(DateTimeOffset.UtcNow),
        };
        Remember(metrics);
        var ownTokens = (long)(end - begin) * _settings.MicroBatchSize * _settings.Context;
        _metrics.StepDone(meanLoss, rate, ownTokens, _settings.TokensPerStep, (_allReduce?.TransferredBytes ?? 0) - bytesBefore, times);
        _trace.Step(step, meanLoss, times);
        return (ReadVotes(_gradients), metrics);
    }

    /// <param name="last">Training ends with this step.</param>
    /// <param name="missing">Some member has not seen a validation of this step.</param>
    private bool ValidationDue(bool last, bool missing) =>
        missing && _data.ValidationSequences > 0 && State.Step > 0 && (last || State.Step % _settings.ValidationInterval == 0);

    /// <summary>Measures the validation loss: each worker takes a share of the batches, all get the same sum.</summary>
    private double Validate()
    {
        using var activity = _trace.Start("validate");
        var batches = _data.ValidationBatches;
        if (_validation?.Length != 2 * batches)
        {
            _validation = new ExchangeBuffer(0, 2 * batches);
        }

        _validation.Clear(gradients: true);
        var begin = (int)((long)_place.Rank * batches / _place.Size);
        var end = (int)((long)(_place.Rank + 1) * batches / _place.Size);
        for (var batch = begin; batch < end; batch++)
        {
            _data.ReadValidationBatch(batch);
            _validation.Set(2 * batch, _replica.Model.Evaluate(_data.Inputs, _data.Targets, _data.Rows).LossSum);
        }

        Exchange(State.Step, Buckets.Validation, _validation);
        var sum = 0.0;
        for (var batch = 0; batch < batches; batch++)
        {
            sum += _validation.Double(2 * batch);
        }

        var loss = sum / _data.ValidationTokens;
        var counts = State.ValidationStep != State.Step && State.Step % _settings.ValidationInterval == 0;
        _replica.State = (counts ? State.Counted(loss, _settings.MinImprovement) : State).Validated(loss);
        _metrics.Validated(loss);
        activity?.SetTag("step", State.Step).SetTag("loss", loss);
        return loss;
    }

    /// <summary>Writes a checkpoint. One that fails is left to the next interval, unless it is the last.</summary>
    private void SaveCheckpoint(bool last)
    {
        for (var attempt = 1; ; attempt++)
        {
            using var activity = _trace.Start("checkpoint");
            var start = Stopwatch.GetTimestamp();
            var before = State;
            try
            {
                _replica.State = before.Checkpointed();
                var name = _checkpoints.Save(_replica, _settings.KeepCheckpoints);
                activity?.SetTag("checkpoint", name);
                _metrics.CheckpointWritten(Stopwatch.GetElapsedTime(start));
                _progress.Checkpoint(name, State.ValidationStep == State.Step ? State.ValidationLoss : null);
                return;
            }
            catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or Azure.RequestFailedException)
            {
                _replica.State = before;
                activity?.SetStatus(ActivityStatusCode.Error, exception.Message);
                LogCheckpointFailed(_logger, exception, State.Step, State.Run);
                if (!last || _control.Exiting)
                {
                    return;
                }

                if (attempt == 12)
                {
                    throw new FatalTrainingException(ErrorReasons.Internal,
                        $"The last checkpoint of {State.Run} (step {State.Step}) could not be written: {exception.Message} Make room or mend the storage, and resume the run.", exception);
                }

                Thread.Sleep(TimeSpan.FromSeconds(5));
            }
        }
    }

    private void Exchange(long step, int bucket, ExchangeBuffer buffer)
    {
        if (_allReduce is null)
        {
            buffer.Finish(0, buffer.Length);
            return;
        }

        var start = Stopwatch.GetTimestamp();
        var exchange = _allReduce.RunAsync(step, bucket, buffer);
        while (!exchange.IsCompleted)
        {
            Task.WaitAny([exchange], TimeSpan.FromMilliseconds(100));
            if (!exchange.IsCompleted && _control.GiveUp(Stopwatch.GetElapsedTime(start)))
            {
                _place.Ring!.Abort();
            }
        }

        exchange.GetAwaiter().GetResult();
    }

    private void AddVotes(ExchangeBuffer buffer, bool validate)
    {
        buffer.AddCount(StopVotes, _control.StopRequested ? 1 : 0);
        buffer.AddCount(LeaveVotes, _control.LeaveRequested ? 1 : 0);
        buffer.AddCount(ValidateVotes, validate ? 1 : 0);
    }

    private static Votes ReadVotes(ExchangeBuffer buffer) =>
        new(buffer.Count(StopVotes) > 0, buffer.Count(LeaveVotes) > 0, buffer.Count(ValidateVotes) > 0);

    private void Remember(StepMetrics metrics)
    {
        _replica.Remember(metrics);
        _replica.State = State with { LastMetrics = JsonFormatter.Default.Format(metrics) };
    }

    private IReadOnlyList<StepMetrics> LastMetrics() =>
        State.LastMetrics is { } json && JsonParser.Default.Parse<StepMetrics>(json) is { } metrics && metrics.Step == State.Step ? [metrics] : [];

    private static TimeSpan Lap(ref long mark)
    {
        var now = Stopwatch.GetTimestamp();
        var lap = Stopwatch.GetElapsedTime(mark, now);
        mark = now;
        return lap;
    }

    [LoggerMessage(2502, LogLevel.Information, "{Run}: a gradient of step {Step} overflowed; it is taken again with the loss scaled by {Scale}.")]
    private static partial void LogOverflow(ILogger logger, string run, long step, double scale);

    [LoggerMessage(2501, LogLevel.Information, "{Run} trains in {Precision}: {Reason}.")]
    private static partial void LogPrecision(ILogger logger, string run, string precision, string reason);

    private readonly record struct Votes(bool Stop, bool Leave, bool Validate);

    [LoggerMessage(2500, LogLevel.Error, "The checkpoint of step {Step} of {Run} could not be written; an older one is intact, and the next is tried at the next interval.")]
    private static partial void LogCheckpointFailed(ILogger logger, Exception exception, long step, string run);
}
