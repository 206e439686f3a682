using System.Diagnostics;
using Google.Protobuf.WellKnownTypes;
using LlmPipeline.Models;
using LlmPipeline.Runs.V1;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Trainer.Collectives;
using LlmPipeline.Trainer.Optimizers;

namespace LlmPipeline.Trainer.Worker;

/// <summary>
/// A round of low-communication training. The shards are trained apart; a small exchange tells whether all have come to the end, and
/// how; then the outer gradients are averaged, and the shared parameters updated. A round counts once or not at all.
/// </summary>
internal sealed partial class TrainingLoop
{
    // Slots of the round bucket, before what the members tell, and the losses and norms of the shards' steps.
    private const int ShardsOver = FirstOwn;
    private const int BadShards = FirstOwn + 1;
    private const int MembersOutOfMemory = FirstOwn + 2;
    private const int FirstMember = FirstOwn + 3;

    // Of a member: a hash of its state before the round, and its tokens; two slots each.
    private const int MemberSlots = 4;

    private ExchangeBuffer? _round;
    private float[]? _shared;
    private OuterExchange? _outer;

    private LocalOptimizer Local => (LocalOptimizer)_replica.Optimizer;

    private (Votes Votes, StepMetrics? Metrics) Round(LocalSettings local)
    {
        // A member whose state is still arriving begins when it is there; the others are at their shards meanwhile.
        TakeArrived(isNeeded: true);
        var before = State.Step;
        var steps = (int)Math.Min(local.Steps - (before % local.Steps), _settings.Steps - before);
        var (begin, end) = local.ShardsOf(_place.Rank, _place.Size);
        var shards = local.OwnData ? _place.Size : local.Shards;
        var key = new LocalRoundKey(before + 1, steps, State.Guard.Rollbacks, State.Guard.DataOffset, _settings.MicroBatchSize);
        var progress = _replica.LocalRound?.Key == key ? _replica.LocalRound : _replica.LocalRound = new LocalRound(key);
        if (progress.Spent is { } spent)
        {
            _time.Add(spent);
            progress.Spent = null;
        }

        var own = new List<(int Shard, LocalShard Training)>();
        var bytesBefore = _allReduce?.TransferredBytes ?? 0;
        var fits = TrainShards(local, progress, begin, end, steps, own);
        var votes = ExchangeRound(local, own, shards, steps, fits, before + steps);
        _replica.StopServing();
        _shares.Begin(_settings.MicroBatches, new bool[_place.Size]);
        if (Differing([.. Enumerable.Range(0, _place.Size).Select(rank => BitConverter.DoubleToUInt64Bits(_round!.Double(MemberSlot(rank))))]) is { } differ)
        {
            _replica.LocalRound = differ[_place.Rank] ? null : progress;
            Heal(before + 1, differ);
            return (votes with { Validate = State.ValidationStep != State.Step }, null);
        }

        if (_round!.Count(MembersOutOfMemory) > 0)
        {
            ReduceMicroBatch(before + 1);
        }

        if (_round.Count(MembersOutOfMemory) > 0 || _round.Count(ShardsOver) < shards)
        {
            return (votes with { Validate = State.ValidationStep != State.Step }, null);
        }

        var seconds = _round.Double(SecondsOfRank0);
        var weights = Weights(local, shards);
        var taken = Enumerable.Range(1, steps).Select(i => MetricsOf(before + i, i - 1, steps, shards, weights)).ToList();
        var (guard, anomaly) = JudgeRound(taken);
        _stepTokens = taken.Sum(m => m.TokenCount) / steps;
        var next = State with { Step = before + steps, TokenCount = State.TokenCount + taken.Sum(m => m.TokenCount), TrainSeconds = seconds };
        if (anomaly is null)
        {
            Average(local, own, shards, weights, next.Step);
            _time.Lap(StepPhase.Exchange);
            _replica.UpdateRound(local.OuterLearningRate, _outer!.Gradient, _outer.State, next with { Guard = guard });
        }
        else if (!TrySkip(next.Step, anomaly, next, steps))
        {
            GoBack(next.Step, anomaly, seconds);
            return (votes with { Validate = State.ValidationStep != State.Step }, null);
        }

        _replica.LocalRound = null;
        _time.Lap(StepPhase.Optimizer);
        return (votes, ReportRound(taken, anomaly, (double)own.Count / shards, (_allReduce?.TransferredBytes ?? 0) - bytesBefore));
    }

    /// <summary>Trains this worker's shards; those that came to the end are in <paramref name="over"/>. False when a micro-batch does not fit into memory.</summary>
    private bool TrainShards(LocalSettings local, LocalRound progress, int begin, int end, int steps, List<(int Shard, LocalShard Training)> over)
    {
        var parameters = _replica.Model.Parameters;
        _shared ??= new float[parameters.Length];
        parameters.Values.CopyTo(_shared);
        try
        {
            for (var shard = begin; shard < end; shard++)
            {
                // Whoever has data of its own keeps its training when ranks change.
                var training = progress.Shard(local.OwnData ? 0 : shard, _shared, InnerState());
                if (!training.IsOver && !Train(local, training, shard, steps))
                {
                    return true;
                }

                over.Add((shard, training));
            }
        }
        catch (Exception exception) when (OutOfMemory.Is(exception) && _settings.MicroBatchSize > 1)
        {
            LogOutOfMemory(_logger, exception, State.Step + 1, State.Run, _settings.MicroBatchSize);
            return false;
        }
        finally
        {
            _shared.CopyTo(parameters.Values);
            parameters.UploadValues();
            _time.Lap(StepPhase.ForwardBackward);
        }

        return true;
    }

    /// <summary>Takes a shard's steps; false when it is not to come to the end now.</summary>
    private bool Train(LocalSettings local, LocalShard training, int shard, int steps)
    {
        var parameters = _replica.Model.Parameters;
        training.Parameters.CopyTo(parameters.Values);
        parameters.UploadValues();
        try
        {
            var isFirst = true;
            while (training.Losses.Count < steps && !training.IsBad)
            {
                if (_place.Ring is GrpcRingTransport { IsBroken: true } broken)
                {
                    throw broken.Broken();
                }

                if (!isFirst && (_control.StopRequested || _control.LeaveRequested))
                {
                    return false;
                }

                isFirst = false;
                TakeStep(local, training, shard, State.Step + training.Losses.Count + 1);
            }
        }
        finally
        {
            parameters.Values.CopyTo(training.Parameters);
        }

        training.End(_shared, local.ClipNorm);
        return true;
    }

    private void TakeStep(LocalSettings local, LocalShard training, int shard, long step)
    {
        var parameters = _replica.Model.Parameters;
        var count = _settings.MicroBatchesTogether;
        var first = local.OwnData ? 0 : shard * count;
        var lossScale = 1f / (local.OwnData ? _data.PredictionsPerStep : _data.PredictionsPerStep / local.Shards);
        var lossSum = 0.0;
        parameters.ZeroGradients();
        for (var microBatch = first; microBatch < first + count; microBatch++)
        {
            _data.ReadMicroBatch(step + State.Guard.DataOffset, microBatch);
            _time.Lap(StepPhase.Data);
            lossSum += _replica.Model.AccumulateGradients(
                _data.Inputs, _data.Targets, _data.Rows, lossScale, Seeds.Derive(_settings.Seed, "dropout", step, (shard * count) + microBatch - first));
            _time.Lap(StepPhase.ForwardBackward);
        }

        parameters.DownloadGradients();
        var norm = GradientNorm.Compute(parameters.Gradients);
        training.Losses.Add((float)(lossSum / count));
        training.Norms.Add((float)norm);
        training.IsBad = !double.IsFinite(lossSum) || !double.IsFinite(norm);
        if (!training.IsBad)
        {
            var updates = local.ResetsState ? training.Losses.Count : step - State.Guard.SkippedSteps;
            Local.Inner.Update(
                updates, _settings.Schedule.At(step, State.TrainSeconds), GradientNorm.ClipFactor(norm, _settings.ClipNorm), parameters.DecayedLength,
                parameters.Values, parameters.Gradients, training.State);
            parameters.UploadValues();
        }

        _time.Lap(StepPhase.Optimizer);
    }

    private IEnumerable<float[]> InnerState() => Local.KeptInnerBuffers > 0 ? _replica.OptimizerState.Take(Local.KeptInnerBuffers)
        : Local.Inner.StateNames.Select(_ => new float[_replica.Model.Parameters.Length]);

    /// <summary>Tells the others how far this worker's shards are, and hears of theirs.</summary>
    private Votes ExchangeRound(LocalSettings local, List<(int Shard, LocalShard Training)> own, int shards, int steps, bool fits, long step)
    {
        var length = LossSlot(shards, 0, steps);
        if (_round?.Length != length)
        {
            _round = new ExchangeBuffer(0, length);
        }

        _round.Clear();
        AddVotes(_round, validate: true);
        _round.AddCount(ShardsOver, own.Count);
        _round.AddCount(MembersOutOfMemory, fits ? 0 : 1);
        if (_place.Rank == 0)
        {
            _round.Set(SecondsOfRank0, _secondsBefore + Stopwatch.GetElapsedTime(_clock).TotalSeconds);
        }

        _round.Set(MemberSlot(_place.Rank), BitConverter.UInt64BitsToDouble(_replica.Hash()));
        if (local.OwnData)
        {
            _round.Set(MemberSlot(_place.Rank) + 2, (double)((OwnData)_data).TokenCount);
        }

        foreach (var (shard, training) in own)
        {
            _round.AddCount(BadShards, training.IsBad ? 1 : 0);
            for (var i = 0; i < steps; i++)
            {
                // One that ended early has no loss from there on.
                _round.Set(LossSlot(shard, i, steps), i < training.Losses.Count ? training.Losses[i] : float.NaN);
                _round.Set(LossSlot(shard, i, steps) + 1, i < training.Norms.Count ? training.Norms[i] : float.NaN);
            }
        }

        Exchange(step, Buckets.Round, _round);
        _time.Lap(StepPhase.Exchange);
        return ReadVotes(_round);
    }

    private static int MemberSlot(int rank) => FirstMember + (MemberSlots * rank);

    private int LossSlot(int shard, int step, int steps) => MemberSlot(_place.Size) + (2 * ((shard * steps) + step));

    /// <summary>What the shards count in the mean: their tokens, where they have data of their own.</summary>
    private double[] Weights(LocalSettings local, int shards)
    {
        if (!local.OwnData)
        {
            return [.. Enumerable.Repeat(1.0 / shards, shards)];
        }

        var tokens = Enumerable.Range(0, shards).Select(rank => _round!.Double(MemberSlot(rank) + 2)).ToList();
        return [.. tokens.Select(count => count / tokens.Sum())];
    }

    private StepMetrics MetricsOf(long step, int index, int steps, int shards, double[] weights)
    {
        var (loss, norm) = (0.0, 0.0);
        for (var shard = 0; shard < shards; shard++)
        {
            loss += weights[shard] * _round!.Single(LossSlot(shard, index, steps));
            norm += weights[shard] * _round.Single(LossSlot(shard, index, steps) + 1);
        }

        return new StepMetrics
        {
            Step = step,
            TrainLoss = loss,
            LearningRate = _settings.Schedule.At(step, State.TrainSeconds),
            GradientNorm = norm,
            TokenCount = _settings.Local!.OwnData ? _data.TokensOfStep(step + State.Guard.DataOffset) * shards : _data.TokensOfStep(step + State.Guard.DataOffset),
            WorkerCount = _place.Size,
            MicroBatchSize = _settings.MicroBatchSize,
        };
    }

    /// <summary>Judges the steps of the round one after the other; the round is an anomaly when one of them is.</summary>
    private (GuardState Guard, Anomaly? Anomaly) JudgeRound(List<StepMetrics> taken)
    {
        var guard = State.Guard;
        if (_round!.Count(BadShards) > 0)
        {
            var bad = taken.FirstOrDefault(m => !double.IsFinite(m.TrainLoss) || !double.IsFinite(m.GradientNorm))?.Step;
            return (guard, new Anomaly(ErrorReasons.LossNotFinite,
                bad is null ? "an outer gradient or an optimizer's state is beyond what can be averaged" : $"a shard's loss or gradient is not finite in step {bad}",
                "Lower optimizer.learning_rate or set optimizer.clip_norm"));
        }

        foreach (var step in taken)
        {
            if (guard.Judge(_settings.Guard, step.TrainLoss, step.GradientNorm) is { } anomaly)
            {
                return (guard, anomaly with { Message = $"in step {step.Step} {anomaly.Message}" });
            }

            guard = guard.Accept(step.TrainLoss, step.GradientNorm);
        }

        return (guard, null);
    }

    /// <summary>Averages outer gradients, and the inner optimizer's state where it is kept.</summary>
    private void Average(LocalSettings local, List<(int Shard, LocalShard Training)> own, int shards, double[] weights, long step)
    {
        _outer ??= new OuterExchange(_gradients, Local, _settings.Seed, Exchange);
        _outer.Run(local.Wire, [.. own.Select(o => new OuterShare(o.Shard, (float)weights[o.Shard], o.Training))], shards, step);
    }

    /// <summary>Tells of the steps of a round; each took as long as the others.</summary>
    /// <returns>The last one, whose time goes on.</returns>
    private StepMetrics ReportRound(List<StepMetrics> taken, Anomaly? anomaly, double ownShare, long bytes)
    {
        var tokens = State.TokenCount - taken.Sum(m => m.TokenCount);
        _trace.Step(taken[^1].Step, taken[^1].TrainLoss, _time);
        _time.Share(taken.Count);
        var now = DateTimeOffset.UtcNow;
        foreach (var (index, metrics) in taken.Index())
        {
            var isLast = metrics == taken[^1];
            _stepTokens = metrics.TokenCount;
            metrics.TokenCount = tokens += _stepTokens;
            FillMemory(metrics);
            metrics.Anomaly = anomaly?.Reason ?? "";
            metrics.ExchangeSeconds = _time[StepPhase.Exchange].TotalSeconds;
            metrics.ExchangeBytes = isLast ? bytes : 0;
            metrics.Time = Timestamp.FromDateTimeOffset(now - ((taken.Count - 1 - index) * _time.Total));
            Fill(metrics);
            Remember(metrics);
            _metrics.StepDone(metrics, (long)(_stepTokens * ownShare), isLast ? bytes : 0, _time);
            if (!isLast && _place.Rank == 0)
            {
                _progress.Step(metrics, State.TrainSeconds);
            }
        }

        return taken[^1];
    }
}
