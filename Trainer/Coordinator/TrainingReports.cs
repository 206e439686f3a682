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
    private double? _bestLoss = bestLoss;
    private long _lastCommit = time.GetTimestamp();
    private long _mostSteps;

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

            var durable = request.Checkpoint.Length > 0 || request.Finished || log.UncommittedCount > MaxUncommitted
                || time.GetElapsedTime(_lastCommit) >= TimeSpan.FromSeconds(options.MetricsCommitSeconds);
            if (durable)
            {
                await log.CommitAsync(CancellationToken.None);
                _lastCommit = time.GetTimestamp();
            }

            await runs.Records.UpdateAsync(id, run => Apply(run, request, news), durable, CancellationToken.None);
            if (request.Finished)
            {
                _finished.TrySetResult();
            }
        }
    }

    /// <summary>The worker sends the report again when it has the new epoch.</summary>
    public static RpcException OldEpoch(ReportProgressRequest request) =>
        RpcErrors.Create(StatusCode.Aborted, ErrorReasons.OldEpoch, $"Epoch {request.Epoch} of '{request.Run}' is over.");

    private bool Apply(Run run, ReportProgressRequest request, IReadOnlyList<StepMetrics> news)
    {
        var now = time.GetUtcNow();
        if (request.HasFraction)
        {
            run.Progress.Fraction = Math.Clamp(request.Fraction, 0, 1);
        }

        foreach (var told in request.Events)
        {
            RunEvents.Add(run, told.Kind, told.Message, told.Time?.ToDateTimeOffset() ?? now);
        }

        if (request.HasRollbackStep)
        {
            TrainingProgress.Reset(run.Progress, log, run.Spec.Training);
        }

        TrainingProgress.Update(run.Progress, log, run.Spec.Training, request.TrainSeconds);
        foreach (var step in news.Where(s => s.HasValidationLoss))
        {
            TrainingProgress.Validated(run.Progress, step.ValidationLoss);
            RunEvents.Add(run, RunEvents.Validated, FormattableString.Invariant(
                $"Step {step.Step}: validation loss {step.ValidationLoss:F4} nats per token{(step.ValidationLoss <= run.Progress.BestValidationLoss ? ", the lowest so far" : "")}."), now);
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
