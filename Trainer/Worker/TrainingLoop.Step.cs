using System.Diagnostics;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using LlmPipeline.Models;
using LlmPipeline.Runs.V1;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Trainer.Collectives;
using LlmPipeline.Trainer.Optimizers;

namespace LlmPipeline.Trainer.Worker;

/// <summary>A step.</summary>
internal sealed partial class TrainingLoop
{
    // Slots of the gradient bucket, before the losses of the micro-batches.
    private const int BadLosses = FirstOwn;
    private const int BadGradients = FirstOwn + 1;
    private const int OutOfMemoryVotes = FirstOwn + 2;
    private const int FirstLoss = FirstOwn + 3;

    private static readonly TimeSpan MemoryInterval = TimeSpan.FromMilliseconds(500);

    private long _memoryMeasured;
    private long _stepTokens;
    private long _memoryBytes;
    private long? _deviceMemoryBytes;

    // Who computes what in the present step.
    private (int Begin, int End)[] _deal = [];

    private (Votes Votes, StepMetrics? Metrics) Step()
    {
        var step = State.Step + 1;
        TakeArrived();
        var (begin, end) = _arriving is null ? _shares.Of(_place.Rank) : default;
        var start = Stopwatch.GetTimestamp();
        var bytesBefore = _allReduce?.TransferredBytes ?? 0;
        _deal = [.. Enumerable.Range(0, _place.Size).Select(rank => _shares.Of(rank))];
        _gradients.Clear();
        ZeroGradients(hasShare: KeepsGradients || end > begin);
        try
        {
            if (_updatesOnDevice)
            {
                ComputeGradientsOnDevice(step, begin, end);
            }
            else
            {
                ComputeGradients(step, begin, end);
            }
        }
        catch (Exception exception) when (OutOfMemory.Is(exception) && _settings.MicroBatchSize > 1)
        {
            // What is on its way goes on as it is: the step is void.
            LogOutOfMemory(_logger, exception, step, State.Run, _settings.MicroBatchSize);
            _gradients.Clear();
            _gradients.AddCount(OutOfMemoryVotes, 1);
        }
        catch
        {
            AbandonRanges();
            throw;
        }

        AddReport(end - begin, Stopwatch.GetElapsedTime(start));
        AddVotes(_gradients, validate: true);
        if (_place.Rank == 0)
        {
            _gradients.Set(SecondsOfRank0, _secondsBefore + Stopwatch.GetElapsedTime(_clock).TotalSeconds);
        }

        var hidden = FinishRanges(step);
        _time.Lap(StepPhase.Exchange);
        var votes = ReadVotes(_gradients);
        if (ReadReports(step) is { } differ)
        {
            Heal(step, differ);
            return (votes with { Validate = State.ValidationStep != State.Step }, null);
        }

        if (_gradients.Count(OutOfMemoryVotes) > 0)
        {
            ReduceMicroBatch(step);
            return (votes with { Validate = State.ValidationStep != State.Step }, null);
        }

        var isFinite = _gradients.Count(BadLosses) + _gradients.Count(BadGradients) == 0;
        if (!isFinite && State.LossScaler is not null && ReduceLossScale(step))
        {
            return (votes with { Validate = State.ValidationStep != State.Step }, null);
        }

        var seconds = _gradients.Double(SecondsOfRank0);
        var lossSum = 0.0;
        for (var microBatch = 0; microBatch < _settings.MicroBatches; microBatch++)
        {
            lossSum += _gradients.Single(FirstLoss + microBatch);
        }

        var loss = lossSum / _settings.MicroBatches;
        var norm = !isFinite ? double.NaN : KeepsGradients ? _deviceNorm : _gradients.Norm();
        var rate = _settings.Schedule.At(step, seconds);
        _stepTokens = _data.TokensOfStep(step + State.Guard.DataOffset);
        var next = State with { Step = step, TokenCount = State.TokenCount + _stepTokens, TrainSeconds = seconds, LossScaler = State.LossScaler?.After(overflow: false) };
        var anomaly = Judge(loss, norm);
        if (anomaly is null)
        {
            next = next with { Guard = State.Guard.Accept(loss, norm) };
            _replica.Update(rate, GradientNorm.ClipFactor(norm, _settings.ClipNorm), _gradients.Gradients, next);
        }
        else if (!TrySkip(step, anomaly, next))
        {
            GoBack(step, anomaly, seconds);
            return (votes with { Validate = State.ValidationStep != State.Step }, null);
        }

        _time.Lap(StepPhase.Optimizer);
        var metrics = new StepMetrics
        {
            Step = step,
            TrainLoss = loss,
            LearningRate = rate,
            GradientNorm = norm,
            TokenCount = next.TokenCount,
            ExchangeSeconds = _time[StepPhase.Exchange].TotalSeconds,
            WorkerCount = _place.Size,
            Anomaly = anomaly?.Reason ?? "",
            MicroBatchSize = _settings.MicroBatchSize,
            ExchangeBytes = (_allReduce?.TransferredBytes ?? 0) - bytesBefore,
            Time = Timestamp.FromDateTimeOffset(DateTimeOffset.UtcNow),
        };
        if (hidden is { } time)
        {
            metrics.HiddenExchangeSeconds = time.TotalSeconds;
        }

        FillMemory(metrics);
        Fill(metrics);
        Remember(metrics);
        var ownTokens = _stepTokens * (end - begin) / _settings.MicroBatches;
        _metrics.StepDone(metrics, ownTokens, (_allReduce?.TransferredBytes ?? 0) - bytesBefore, _time);
        _trace.Step(step, loss, _time);
        return (votes, metrics);
    }

    /// <summary>Adds this worker's share to the exchange buffer. An anomaly ends it early: the step will not count.</summary>
    private void ComputeGradients(long step, int begin, int end)
    {
        var parameters = _replica.Model.Parameters;
        var lossScale = 1f / _data.PredictionsPerStep;
        var scaler = State.LossScaler;
        var limit = FixedPoint.LimitFor(_settings.MicroBatches);
        var isPlain = _format.Mode == SumMode.Plain;
        for (var microBatch = begin; microBatch < end; microBatch++)
        {
            ThrowIfOver();
            _data.ReadMicroBatch(step + State.Guard.DataOffset, microBatch);
            _time.Lap(StepPhase.Data);
            var isLast = microBatch == end - 1;
            var sendsParts = isLast && _allReduce is not null && _onHost && scaler is null;
            var fits = true;

            // In plain mode the gradients of all micro-batches add up where they are, so they are scaled together.
            var unscale = scaler is null || (!isLast && isPlain) ? 1 : (float)(1 / scaler.Scale);
            var loss = _replica.Model.AccumulateGradients(
                _data.Inputs, _data.Targets, _data.Rows, (float)(lossScale * (scaler?.Scale ?? 1)), Seeds.Derive(_settings.Seed, "dropout", step, microBatch),
                unscale, sendsParts ? part => SendRanges(step, part, Take) : null);
            var isFinite = float.IsFinite(loss);
            if (sendsParts)
            {
                SendRanges(step, 0, Take);
                Take(parameters.DecayedLength, parameters.Length - parameters.DecayedLength);
            }
            else if (isLast)
            {
                Take(0, parameters.Length);
            }
            else if (!isPlain)
            {
                fits = _gradients.Add(parameters.Gradients, limit);
            }

            void Take(int offset, int length) => fits &= _gradients.AddLast(offset, length, limit);

            if (!_onHost && !isLast && !isPlain)
            {
                parameters.ZeroGradients();
            }

            _gradients.Set(FirstLoss + microBatch, fits ? loss : float.NaN);
            _time.Lap(StepPhase.ForwardBackward);
            if (!isFinite || !fits)
            {
                _gradients.AddCount(isFinite ? BadGradients : BadLosses, 1);
                return;
            }
        }
    }

    private ExchangeBuffer GradientBuffer() =>
        _replica.GradientBuffer(FirstLoss + _settings.MicroBatches + (ReportSlots * _place.Size), _format, KeepsGradients);

    private void FillMemory(StepMetrics metrics)
    {
        if (_memoryMeasured == 0 || Stopwatch.GetElapsedTime(_memoryMeasured) >= MemoryInterval)
        {
            _memoryMeasured = Stopwatch.GetTimestamp();
            _memoryBytes = Environment.WorkingSet;
            _deviceMemoryBytes = DeviceMemory.InUse(_replica.Model.Device);
        }

        metrics.MemoryBytes = _memoryBytes;
        if (_deviceMemoryBytes is { } bytes)
        {
            metrics.DeviceMemoryBytes = bytes;
        }
    }

    /// <summary>Tells the coordinator of a step that is done, with all of its time so far.</summary>
    private void Report(StepMetrics? done)
    {
        if (done is null)
        {
            return;
        }

        if (ReferenceEquals(done, _timed))
        {
            Fill(done);
        }

        if (_place.Rank == 0)
        {
            _progress.Step(done, State.TrainSeconds);
        }
    }

    /// <summary>Fills in the times of a step, and what follows from them.</summary>
    private void Fill(StepMetrics metrics)
    {
        metrics.Phases = _time.ToMessage();
        metrics.StepSeconds = _time.Total.TotalSeconds;
        var seconds = (_time.Total - _time[StepPhase.Validation]).TotalSeconds;
        metrics.TokensPerSecond = _stepTokens / Math.Max(1e-9, seconds);
        if (_peakFlops > 0)
        {
            metrics.ModelFlopsUtilization = metrics.TokensPerSecond * _flopsPerToken / (_peakFlops * _place.Size);
        }
    }

    private void Remember(StepMetrics metrics)
    {
        _replica.Remember(metrics);
        _replica.State = State with { LastMetrics = JsonFormatter.Default.Format(metrics) };
    }

    private IReadOnlyList<StepMetrics> LastMetrics() =>
        State.LastMetrics is { } json && StoredMessages.Parser.Parse<StepMetrics>(json) is { } metrics && metrics.Step == State.Step ? [metrics] : [];

    [LoggerMessage(2502, LogLevel.Warning, "Step {Step} of {Run}: a micro-batch of {Size} sequences does not fit into memory.")]
    private static partial void LogOutOfMemory(ILogger logger, Exception exception, long step, string run, int size);
}
