using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using LlmPipeline.Runs.V1;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;
using LlmPipeline.Workers.V1;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary>Brings the reports of rank 0 into the record and the metrics of a run, one after the other.</summary>
internal sealed class TrainingReports(
    string id, RunCatalog runs, EpochManager epochs, StepMetricsLog log, double? bestLoss, CoordinatorOptions options, TimeProvider time)
{
    /// <summary>
    /// More steps than this are never in memory only: after a restart of the coordinator, rank 0 reports its newest 256 steps again.
    /// </summary>
    private const int MaxUncommitted = 128;

    private readonly AsyncLock _gate = new();
    private readonly TaskCompletionSource _finished = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly List<StepMetrics> _untold = [];
    private double? _bestLoss = bestLoss;
    private long _lastCommit = time.GetTimestamp();
    private long _mostSteps;

    /// <summary>Called with each event that a report brings: kind, message.</summary>
    public Action<string, string> Told { get; init; } = (_, _) => { };

    /// <summary>Completes when rank 0 said that training is over.</summary>
    public Task Finished => _finished.Task;

    /// <summary>Takes no report until the result is disposed: an epoch that begins again from a checkpoint first drops the steps after it.</summary>
    public Task<IDisposable> HoldAsync(CancellationToken cancellationToken) => _gate.EnterAsync(cancellationToken);

    /// <summary>Takes a report; what it says is durable as far as it has to be when this returns.</summary>
    /// <exception cref="RpcException">ABORTED when it is of an old epoch.</exception>
    public async Task TakeAsync(ReportProgressRequest request, CancellationToken cancellationToken)
    {
        if (request.Checkpoint.Length > 0 && ResourceName.ParseCheckpoint(request.Checkpoint).Run != request.Run)
        {
            throw new ArgumentException($"'{request.Checkpoint}' is not a checkpoint of '{request.Run}'.");
        }

        using (await _gate.EnterAsync(cancellationToken))
        {
            if (!epochs.Accepts(request.Run, request.Epoch, request.WorkerId))
            {
                throw OldEpoch(request);
            }

            request = InOurTime(request);
            var told = runs.Records.TryGet(id)!.Value.Events.Select(e => (e.Kind, e.Message)).ToHashSet();
            var remembered = request.RememberedEvents.Where(e => !told.Contains((e.Kind, e.Message))).ToList();
            request.RememberedEvents.Clear();
            request.RememberedEvents.AddRange(remembered);
            if (request.HasRememberedRollbackStep && remembered.Any(e => e.Kind == RunEvents.RolledBack))
            {
                request.RollbackStep = Math.Min(request.RememberedRollbackStep, request.HasRollbackStep ? request.RollbackStep : long.MaxValue);
            }

            if (request.HasRollbackStep)
            {
                await log.TruncateAsync(request.RollbackStep, CancellationToken.None);
                _mostSteps = Math.Min(_mostSteps, request.RollbackStep);
            }

            var news = log.Append(request.Metrics);
            if (log.Last is { } last && last.Step > _mostSteps)
            {
                _mostSteps = last.Step;
                epochs.Progressed();
            }

            // Events are durable before they are shown: their numbers are given once.
            _untold.AddRange(news.Where(s => s.HasValidationLoss));
            var durable = _untold.Count > 0 || request.Checkpoint.Length > 0 || request.Finished || request.HasRollbackStep || request.Events.Count + remembered.Count > 0 || log.UncommittedCount > MaxUncommitted
                || time.GetElapsedTime(_lastCommit) >= TimeSpan.FromSeconds(options.MetricsCommitSeconds);
            if (durable)
            {
                await log.CommitAsync(CancellationToken.None);
                _lastCommit = time.GetTimestamp();
            }

            await runs.Records.UpdateAsync(id, run => Apply(run, request), durable, CancellationToken.None);
            _untold.Clear();
            foreach (var happened in request.RememberedEvents.Concat(request.Events))
            {
                Told(happened.Kind, happened.Message);
            }

            if (request.Finished)
            {
                _finished.TrySetResult();
            }
        }
    }

    /// <summary>The worker sends the report again when it has the new epoch.</summary>
    public static RpcException OldEpoch(ReportProgressRequest request) =>
        RpcErrors.Create(StatusCode.Aborted, ErrorReasons.OldEpoch, $"Epoch {request.Epoch} of '{request.Run}' is over.");

    /// <summary>The times of a report by the coordinator's clock: a worker's clock may be wrong, but not by different amounts within a report.</summary>
    private ReportProgressRequest InOurTime(ReportProgressRequest request)
    {
        request = request.Clone();
        if (request.SentTime is not { } sent)
        {
            return request;
        }

        var shift = time.GetUtcNow() - sent.ToDateTimeOffset();
        foreach (var step in request.Metrics.Where(m => m.Time is not null))
        {
            step.Time = Timestamp.FromDateTimeOffset(step.Time.ToDateTimeOffset() + shift);
        }

        foreach (var told in request.Events.Concat(request.RememberedEvents).Where(e => e.Time is not null))
        {
            told.Time = Timestamp.FromDateTimeOffset(told.Time.ToDateTimeOffset() + shift);
        }

        return request;
    }

    private bool Apply(Run run, ReportProgressRequest request)
    {
        var now = time.GetUtcNow();
        if (request.HasFraction)
        {
            run.Progress.Fraction = Math.Clamp(request.Fraction, 0, 1);
        }

        foreach (var told in request.RememberedEvents.Concat(request.Events))
        {
            RunEvents.Add(run, told.Kind, told.Message, told.Time?.ToDateTimeOffset() ?? now);
        }

        if (request.HasRollbackStep)
        {
            TrainingProgress.Reset(run.Progress, log, run.Spec.Training, request.TrainSeconds);
        }

        TrainingProgress.Update(run.Progress, log, run.Spec.Training, request.TrainSeconds);
        foreach (var step in _untold)
        {
            TrainingProgress.Validated(run.Progress, step.ValidationLoss);
            RunEvents.Add(run, RunEvents.Validated, FormattableString.Invariant(
                $"Step {step.Step}: validation loss {step.ValidationLoss:F4} {LossUnit.Of(run)}{(step.ValidationLoss <= run.Progress.BestValidationLoss ? ", the lowest so far" : "")}."), now);
        }

        if (request.Checkpoint.Length > 0 && request.Checkpoint != run.LatestCheckpoint)
        {
            run.LatestCheckpoint = request.Checkpoint;
            RunEvents.Add(run, RunEvents.CheckpointWritten, $"{request.Checkpoint} is written.", now);
        }

        if (request.Checkpoint.Length > 0 && request.HasCheckpointValidationLoss && !(_bestLoss <= request.CheckpointValidationLoss))
        {
            _bestLoss = request.CheckpointValidationLoss;
            run.BestCheckpoint = request.Checkpoint;
        }

        return true;
    }
}
