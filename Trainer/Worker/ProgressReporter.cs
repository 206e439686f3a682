using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using LlmPipeline.Runs.V1;
using LlmPipeline.Workers.V1;

namespace LlmPipeline.Trainer.Worker;

/// <summary>
/// Brings the loop's reports to the coordinator, about twice a second. What was not acknowledged is sent again, for ever; what
/// an old epoch left over is sent with the next one, when this worker is rank 0 again and the run is the same.
/// </summary>
internal sealed partial class ProgressReporter(
    CoordinatorService.CoordinatorServiceClient client, string workerId, ILogger logger) : IProgressSink
{
    private const int MaxMetricsPerReport = 2000;
    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(500);

    private readonly Lock _lock = new();
    private readonly List<StepMetrics> _metrics = [];
    private readonly List<RunEvent> _events = [];
    private (IReadOnlyList<RunEvent> Events, long? RollbackStep)? _remembered;
    private readonly Queue<(string Name, double? Loss)> _checkpoints = new();
    private TaskCompletionSource _signal = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private EpochPlan? _plan;
    private double _trainSeconds;
    private double? _finishedSeconds;
    private double? _share;
    private long? _rollback;

    /// <summary>Begins an epoch; only rank 0 reports.</summary>
    public void Begin(EpochPlan plan)
    {
        lock (_lock)
        {
            if (_plan?.Run != plan.Run || _plan.Attempt != plan.Attempt || plan.Rank != 0)
            {
                _metrics.Clear();
                _checkpoints.Clear();
                _events.Clear();
                _rollback = null;
                _trainSeconds = 0;
            }

            _remembered = null;

            _finishedSeconds = null;
            _share = null;
            _plan = plan;
        }
    }

    /// <inheritdoc/>
    public void Step(StepMetrics metrics, double trainSeconds)
    {
        lock (_lock)
        {
            _trainSeconds = trainSeconds;
            // A step that was already waiting is replaced: it comes again with its validation.
            _metrics.RemoveAll(m => m.Step == metrics.Step);
            _metrics.Add(metrics);
        }

        if (metrics.HasValidationLoss)
        {
            Hurry();
        }
    }

    /// <inheritdoc/>
    public void Rollback(long step)
    {
        lock (_lock)
        {
            _metrics.RemoveAll(m => m.Step > step);
            _rollback = Math.Min(step, _rollback ?? step);
        }
    }

    /// <inheritdoc/>
    public void Event(string kind, string message)
    {
        lock (_lock)
        {
            _events.Add(new RunEvent { Kind = kind, Message = message, Time = Timestamp.FromDateTimeOffset(DateTimeOffset.UtcNow) });
        }

        Hurry();
    }

    /// <inheritdoc/>
    public void Remembered(IReadOnlyList<RunEvent> events, long? rollbackStep)
    {
        lock (_lock)
        {
            // What this worker itself is still to tell is told once.
            RunEvent[] others = [.. events.Where(e => _events.All(own => (own.Kind, own.Message) != (e.Kind, e.Message)))];
            _remembered = others.Length > 0 ? (others, rollbackStep) : null;
        }
    }

    /// <inheritdoc/>
    public void Share(double fraction)
    {
        lock (_lock)
        {
            _share = fraction;
        }
    }

    /// <inheritdoc/>
    public void Checkpoint(string name, double? validationLoss)
    {
        lock (_lock)
        {
            _checkpoints.Enqueue((name, validationLoss));
        }

        Hurry();
    }

    /// <inheritdoc/>
    public void Finished(double trainSeconds)
    {
        lock (_lock)
        {
            _finishedSeconds = trainSeconds;
        }

        Hurry();
    }

    /// <summary>Runs until cancelled.</summary>
    public async Task RunAsync(CancellationToken cancellationToken)
    {
        while (!cancellationToken.IsCancellationRequested)
        {
            Task signal;
            lock (_lock)
            {
                signal = _signal.Task;
            }

            await Task.WhenAny(signal, Task.Delay(Interval, cancellationToken));
            await FlushAsync(cancellationToken);
        }
    }

    /// <summary>Sends what there is, as far as the coordinator takes it.</summary>
    public async Task FlushAsync(CancellationToken cancellationToken)
    {
        while (Next() is { } request)
        {
            try
            {
                await client.ReportProgressAsync(request, deadline: DateTime.UtcNow.AddSeconds(10), cancellationToken: cancellationToken);
                Acknowledge(request);
            }
            catch (RpcException exception) when (exception.StatusCode == StatusCode.Aborted)
            {
                LogRefused(request.Epoch, exception.Status.Detail);
                return;
            }
            catch (RpcException exception)
            {
                if (exception.StatusCode is not (StatusCode.Unavailable or StatusCode.DeadlineExceeded or StatusCode.Cancelled))
                {
                    LogFailed(exception.StatusCode, exception.Status.Detail);
                }

                return;
            }
        }
    }

    private ReportProgressRequest? Next()
    {
        lock (_lock)
        {
            if (_signal.Task.IsCompleted)
            {
                _signal = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            }

            if (_plan is null || (_metrics.Count == 0 && _checkpoints.Count == 0 && _events.Count == 0 && _remembered is null && _rollback is null && _finishedSeconds is null && _share is null))
            {
                return null;
            }

            var request = new ReportProgressRequest { WorkerId = workerId, Epoch = _plan.Epoch, Run = _plan.Run, TrainSeconds = _trainSeconds };
            if (_share is { } share)
            {
                request.Fraction = share;
            }

            if (_rollback is { } step)
            {
                request.RollbackStep = step;
            }

            request.SentTime = Timestamp.FromDateTimeOffset(DateTimeOffset.UtcNow);
            request.Events.AddRange(_events);
            if (_remembered is { } remembered)
            {
                request.RememberedEvents.AddRange(remembered.Events);
                if (remembered.RollbackStep is { } target)
                {
                    request.RememberedRollbackStep = target;
                }
            }

            request.Metrics.AddRange(_metrics.Take(MaxMetricsPerReport));
            var all = request.Metrics.Count == _metrics.Count;
            if (all && _checkpoints.TryPeek(out var checkpoint))
            {
                request.Checkpoint = checkpoint.Name;
                if (checkpoint.Loss is { } loss)
                {
                    request.CheckpointValidationLoss = loss;
                }
            }

            if (all && _checkpoints.Count <= 1 && _finishedSeconds is { } seconds)
            {
                request.Finished = true;
                request.TrainSeconds = seconds;
            }

            return request;
        }
    }

    private void Acknowledge(ReportProgressRequest request)
    {
        lock (_lock)
        {
            var sent = new HashSet<StepMetrics>(request.Metrics, ReferenceEqualityComparer.Instance);
            _metrics.RemoveAll(sent.Contains);
            if (request.RememberedEvents.Count > 0 && ReferenceEquals(request.RememberedEvents[0], _remembered?.Events[0]))
            {
                _remembered = null;
            }

            _events.RemoveAll(new HashSet<RunEvent>(request.Events, ReferenceEqualityComparer.Instance).Contains);
            if (request.HasRollbackStep && request.RollbackStep == _rollback)
            {
                _rollback = null;
            }

            if (request.Checkpoint.Length > 0 && _checkpoints.TryPeek(out var checkpoint) && checkpoint.Name == request.Checkpoint)
            {
                _checkpoints.Dequeue();
            }

            if (request.HasFraction && request.Fraction.Equals(_share))
            {
                _share = null;
            }

            if (request.Finished)
            {
                _finishedSeconds = null;
            }
        }
    }

    private void Hurry()
    {
        lock (_lock)
        {
            _signal.TrySetResult();
        }
    }

    [LoggerMessage(2520, LogLevel.Information, "The coordinator refused a report of epoch {Epoch} ({Detail}); it is sent again with the next epoch.")]
    private partial void LogRefused(long epoch, string detail);

    [LoggerMessage(2521, LogLevel.Warning, "A report could not be delivered ({Status}: {Detail}); it is sent again.")]
    private partial void LogFailed(StatusCode status, string detail);
}
