using System.Diagnostics;
using Grpc.Core;
using LlmPipeline.Runs.V1;
using LlmPipeline.Storage;
using LlmPipeline.Workers.V1;
using Microsoft.Extensions.Options;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary>TRAINING: drives epochs until rank 0 says that training is over, and takes its reports.</summary>
internal sealed partial class TrainingStage(
    RunCatalog runs, EpochManager epochs, EpochCounter counter, StepMetricsCatalog metrics, IBlobStore store, IOptions<CoordinatorOptions> options,
    TimeProvider time, ILogger<TrainingStage> logger)
{
    private static readonly TimeSpan StorageRetry = TimeSpan.FromSeconds(2);

    private volatile TrainingReports? _reports;

    /// <summary>Takes a report of a worker.</summary>
    /// <exception cref="RpcException">ABORTED when it is of an old epoch.</exception>
    public async Task ReportAsync(ReportProgressRequest request, CancellationToken cancellationToken)
    {
        await (_reports ?? throw TrainingReports.OldEpoch(request)).TakeAsync(request, cancellationToken);
    }

    /// <summary>Returns when training is over, or the run was cancelled and no worker trains it any more.</summary>
    /// <param name="id">Id of the run.</param>
    /// <param name="cancelling">Completes when the run is to be cancelled.</param>
    /// <param name="restarted">The coordinator found the run in this stage.</param>
    /// <param name="stopping">The coordinator exits; workers go on meanwhile.</param>
    /// <exception cref="StageFailedException">A worker said that the run cannot go on.</exception>
    public async Task RunAsync(string id, Task cancelling, bool restarted, CancellationToken stopping)
    {
        var run = runs.Records.TryGet(id)!.Value;
        var log = await metrics.ActivateAsync(run.Name, stopping);
        var committed = await Checkpoints.ListAsync(store, run.Name, stopping);
        using var segment = new Segment(run, log);
        var reports = new TrainingReports(id, runs, epochs, log, Checkpoints.Best(committed)?.ValidationLoss, options.Value, time) { Told = segment.Tell };
        epochs.SetJob(new TrainingJob
        {
            Run = run.Name,
            Attempt = run.Attempt,
            Spec = run.Spec,
            Dataset = run.Dataset,
            Traceparent = run.Traceparent,
            ExpectedWorkers = restarted ? [.. run.Workers.OrderBy(w => w.Rank).Select(w => w.WorkerId)] : [],
        });
        _reports = reports;
        try
        {
            await DriveAsync(id, run, log, reports, segment, cancelling, stopping);
            await log.CommitAsync(stopping);
        }
        finally
        {
            _reports = null;
            if (!stopping.IsCancellationRequested)
            {
                epochs.SetJob(null);
            }
            else
            {
                using var timeout = new CancellationTokenSource(StorageRetry);
                await log.CommitAsync(timeout.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
        }
    }

    private async Task DriveAsync(string id, Run run, StepMetricsLog log, TrainingReports reports, Segment segment, Task cancelling, CancellationToken stopping)
    {
        var said = "";
        while (true)
        {
            stopping.ThrowIfCancellationRequested();
            segment.Continue();
            if (cancelling.IsCompleted)
            {
                epochs.Cancel();
            }

            var changed = epochs.Changed;
            var decision = epochs.Decide();
            await TellAsync(id, segment);
            if (reports.Finished.IsCompleted)
            {
                return;
            }

            switch (decision.Action)
            {
                case EpochAction.Over:
                    return;
                case EpochAction.Fail:
                    throw new StageFailedException(decision.Error!.Reason, decision.Error.Message);
                case EpochAction.Form when await TryBeginAsync(id, run, log, reports, segment, decision, stopping):
                    said = "";
                    continue;
                case EpochAction.Form:
                    await Task.Delay(StorageRetry, time, stopping).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                    continue;
                default:
                    break;
            }

            if (decision.IsAwaitingWorkers && decision.Reason != said)
            {
                said = decision.Reason;
                await AwaitWorkersAsync(id, said, segment);
            }

            var wait = Min(decision.Recheck ?? segment.Left, segment.Left) + TimeSpan.FromMilliseconds(5);
            try
            {
                await Task.WhenAny(changed, reports.Finished, cancelling.IsCompleted ? changed : cancelling).WaitAsync(wait, time, stopping);
            }
            catch (TimeoutException)
            {
                // Time to look again.
            }
        }
    }

    /// <summary>Begins an epoch; false when storage does not let it.</summary>
    private async Task<bool> TryBeginAsync(
        string id, Run run, StepMetricsLog log, TrainingReports reports, Segment segment, EpochDecision decision, CancellationToken stopping)
    {
        try
        {
            EpochOrigin? origin = null;
            var originSeconds = 0.0;
            IReadOnlyList<CommittedCheckpoint> committed = [];
            if (decision.NeedsOrigin)
            {
                var (newest, damaged) = await Checkpoints.NewestIntactAsync(store, run.Name, long.MaxValue, stopping);
                await DropAsync(id, damaged, newest, stopping);
                committed = await Checkpoints.ListAsync(store, run.Name, stopping);
                origin = new EpochOrigin(newest?.Name ?? "", newest?.Step ?? 0);
                originSeconds = newest?.TrainSeconds ?? 0;
            }

            var number = await counter.NextAsync(stopping);
            using var hold = await reports.HoldAsync(stopping);
            if (epochs.Begin(number, origin) is not { } start)
            {
                return true;
            }

            LogEpoch(run.Name, start.Number, start.Workers.Count, start.StartStep, start.Reason);
            if (start.FromOrigin)
            {
                await TruncateAsync(run.Name, log, start.StartStep, stopping);
            }

            await TellAsync(id, segment);
            var began = $"Epoch {start.Number}: {start.Workers.Count} {(start.Workers.Count == 1 ? "worker" : "workers")} ({string.Join(", ", start.Workers.Select(w => w.WorkerId).Take(8))}{(start.Workers.Count > 8 ? ", ..." : "")}) from step {start.StartStep} on, because {start.Reason}.";
            segment.Tell(RunEvents.EpochStarted, began);
            await runs.TellAsync(id, record =>
            {
                record.Workers.Clear();
                record.Workers.AddRange(start.Workers);
                if (start.FromOrigin)
                {
                    TrainingProgress.Reset(record.Progress, log, record.Spec.Training, originSeconds);
                    record.LatestCheckpoint = origin!.Checkpoint;
                    record.BestCheckpoint = Checkpoints.Best(committed)?.Name ?? "";
                }

                RunEvents.Add(record, RunEvents.EpochStarted, began, time.GetUtcNow());
            });
            return true;
        }
        catch (Exception exception) when (exception is (IOException and not BlobConditionException) or Azure.RequestFailedException)
        {
            LogStorage(exception, run.Name);
            return false;
        }
    }

    /// <summary>The workers have begun: what storage does not do now is done with what is written next.</summary>
    private async Task TruncateAsync(string run, StepMetricsLog log, long after, CancellationToken stopping)
    {
        try
        {
            await log.TruncateAsync(after, stopping);
        }
        catch (Exception exception) when (StorageFailure.Is(exception) && exception is not BlobConditionException)
        {
            LogStorage(exception, run);
        }
    }

    /// <summary>Damaged checkpoints do not count any more: the run tells of them, and goes on from the one before.</summary>
    private async Task DropAsync(string id, IReadOnlyList<CommittedCheckpoint> damaged, CommittedCheckpoint? newest, CancellationToken stopping)
    {
        foreach (var checkpoint in damaged)
        {
            var message = $"{checkpoint.Name} is damaged and was dropped; training goes on from {(newest is null ? "the beginning" : newest.Name)}.";
            LogDamaged(message);
            await runs.AddEventAsync(id, RunEvents.CheckpointDamaged, message);
            await store.DeleteDirectoryAsync(checkpoint.Name, stopping);
        }
    }

    private async Task TellAsync(string id, Segment segment)
    {
        var notices = epochs.TakeNotices();
        if (notices.Count > 0)
        {
            await runs.TellAsync(id, run =>
            {
                foreach (var notice in notices)
                {
                    RunEvents.Add(run, notice.Kind, notice.Message, time.GetUtcNow());
                }
            });
            foreach (var notice in notices)
            {
                segment.Tell(notice.Kind, notice.Message);
            }
        }
    }

    private Task AwaitWorkersAsync(string id, string what, Segment segment)
    {
        var message = $"{char.ToUpperInvariant(what[0])}{what[1..]}.";
        segment.Tell(RunEvents.WorkersAwaited, message);
        return runs.TellAsync(id, run =>
        {
            run.Workers.Clear();
            run.Progress.ClearTokensPerSecond();
            run.Progress.ClearRemainingSeconds();
            RunEvents.Add(run, RunEvents.WorkersAwaited, message, time.GetUtcNow());
        });
    }

    private static TimeSpan Min(TimeSpan a, TimeSpan b) => a < b ? a : b;

    /// <summary>A span at most every minute, with the run's events in it.</summary>
    private sealed class Segment(Run run, StepMetricsLog log) : IDisposable
    {
        private Activity? _activity;
        private long _start;

        public TimeSpan Left => RunTrace.SegmentLength > Stopwatch.GetElapsedTime(_start) ? RunTrace.SegmentLength - Stopwatch.GetElapsedTime(_start) : TimeSpan.Zero;

        public void Continue()
        {
            if (_start != 0 && Left > TimeSpan.Zero)
            {
                return;
            }

            Dispose();
            _start = Stopwatch.GetTimestamp();
            _activity = RunTrace.Start("run training", run)?.SetTag("first_step", (log.Last?.Step ?? 0) + 1);
            Activity.Current = null;
        }

        /// <summary>Puts an event of the run into its trace.</summary>
        public void Tell(string kind, string message) => _activity?.AddEvent(new ActivityEvent(kind, tags: new ActivityTagsCollection { ["message"] = message }));

        public void Dispose() => _activity?.SetTag("last_step", log.Last?.Step ?? 0).Dispose();
    }

    [LoggerMessage(2020, LogLevel.Information, "{Run}: epoch {Epoch} begins with {Workers} workers from step {Step} on, because {Reason}.")]
    private partial void LogEpoch(string run, long epoch, int workers, long step, string reason);

    [LoggerMessage(2022, LogLevel.Warning, "{Message}")]
    private partial void LogDamaged(string message);

    [LoggerMessage(2021, LogLevel.Warning, "{Run}: storage does not let the next epoch begin; trying again in a moment.")]
    private partial void LogStorage(Exception exception, string run);
}
