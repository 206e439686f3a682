using LlmPipeline.Runs.V1;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;
using LlmPipeline.Trainer.Coordinator.Reports;
using Microsoft.Extensions.Options;
using State = LlmPipeline.Runs.V1.Run.Types.State;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary>
/// Takes one run through its stages. Each stage can be done again, and is recorded before the next begins, so that a killed
/// coordinator goes on where it was.
/// </summary>
internal sealed partial class RunStages(
    RunCatalog runs, PreparingStage preparing, TrainingStage training, EvaluatingStage evaluating, PublishingStage publishing,
    StepMetricsCatalog metrics, RunReports reports, IBlobStore store, IOptions<CoordinatorOptions> options, TimeProvider time, IConfiguration configuration, ILogger<RunStages> logger)
{
    private static readonly TimeSpan StorageRetry = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan StoragePatience = TimeSpan.FromMinutes(5);

    /// <summary>Returns when the run is over.</summary>
    /// <param name="id">Id of the run.</param>
    /// <param name="restarted">An earlier process worked on it.</param>
    /// <param name="stopping">The coordinator exits; the run stays as it is.</param>
    public async Task RunAsync(string id, bool restarted, CancellationToken stopping)
    {
        using var cancel = new CancellationTokenSource();
        using var over = CancellationTokenSource.CreateLinkedTokenSource(stopping);
        var watching = WatchForCancelAsync(id, cancel, over.Token);
        try
        {
            long? storageAwaySince = null;
            while (Current(id) is var run && !RunStates.IsTerminal(run.State))
            {
                try
                {
                    await StepAsync(id, run, restarted, cancel, stopping);
                    (restarted, storageAwaySince) = (false, null);
                }
                catch (Exception exception) when (IsStorage(exception)
                    && time.GetElapsedTime(storageAwaySince ??= time.GetTimestamp()) < StoragePatience)
                {
                    LogStorage(exception, run.Name, RunStates.NameOf(run.State));
                    restarted = true;
                    await Task.Delay(StorageRetry, time, stopping);
                }
            }

            await reports.WriteAsync(Current(id), stopping);
        }
        finally
        {
            await over.CancelAsync();
            await watching.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private Run Current(string id) => runs.Records.TryGet(id)!.Value;

    private async Task StepAsync(string id, Run run, bool restarted, CancellationTokenSource cancel, CancellationToken stopping)
    {
        using var stage = CancellationTokenSource.CreateLinkedTokenSource(stopping, cancel.Token);
        LogStage(run.Name, RunStates.NameOf(run.State), run.Attempt);
        try
        {
            switch (run.State)
            {
                case State.Queued:
                    await BeginAttemptAsync(id, run, stopping);
                    break;
                case State.Preparing:
                    var dataset = await preparing.RunAsync(id, run, Service(id, "The Preprocessor", "Preprocessor:Endpoint"), stage.Token);
                    await MoveAsync(id, State.Preparing, State.Training, record =>
                    {
                        record.Dataset = dataset.Name;
                        record.Labels.Clear();
                        record.Labels.AddRange(dataset.Labels);
                        if (!record.Spec.HasDatasetName)
                        {
                            record.Spec.Dataset = dataset.Spec;
                        }

                        RunEvents.Add(record, RunEvents.DatasetReady,
                            $"{dataset.Name}: {string.Join(", ", dataset.Splits.Select(s => FormattableString.Invariant($"{s.TokenCount:N0} {s.Split} tokens")))}.", time.GetUtcNow());
                    });
                    break;
                case State.Training:
                    await training.RunAsync(id, CancelTask(cancel), restarted, stopping);
                    await EndTrainingAsync(id, run, stopping);
                    break;
                case State.Evaluating:
                    var result = await evaluating.RunAsync(id, run, Service(id, "The Evaluator", "Evaluator:Endpoint"), stage.Token);
                    await EvaluatedAsync(id, run, result);
                    break;
                case State.Publishing:
                    var model = await publishing.RunAsync(run, stage.Token);
                    await MoveAsync(id, State.Publishing, State.Succeeded, record =>
                    {
                        record.ModelVersion = model;
                        RunEvents.Add(record, RunEvents.Published, $"{model} is published.", time.GetUtcNow());
                    });
                    break;
                default:
                    await FinishCancellingAsync(id, run, restarted, cancel, stopping);
                    break;
            }
        }
        catch (OperationCanceledException) when (!stopping.IsCancellationRequested && cancel.IsCancellationRequested)
        {
            await MoveAsync(id, State.Cancelling, State.Cancelled);
        }
        catch (StageFailedException exception)
        {
            await FailAsync(id, run, exception.Error, exception);
        }
        catch (Exception exception) when (exception is not (OperationCanceledException or BlobConditionException) && !IsStorage(exception))
        {
            await FailAsync(id, run, new RunError
            {
                Reason = ErrorReasons.Internal,
                Message = $"{RunStates.NameOf(run.State)} failed unexpectedly: {exception.Message} The coordinator's log says more.",
            }, exception);
        }
    }

    /// <summary>What an earlier attempt left beyond the checkpoint that this one begins with is void.</summary>
    private async Task BeginAttemptAsync(string id, Run run, CancellationToken stopping)
    {
        var start = run.LatestCheckpoint.Length > 0 ? ResourceName.ParseCheckpoint(run.LatestCheckpoint).Step : 0;
        var committed = await Checkpoints.ListAsync(store, run.Name, stopping);
        foreach (var checkpoint in committed.Where(c => c.Step > start))
        {
            await store.DeleteDirectoryAsync(checkpoint.Name, stopping);
        }

        var log = await metrics.ActivateAsync(run.Name, stopping);
        await log.TruncateAsync(start, stopping);
        var seconds = committed.FirstOrDefault(c => c.Step == start)?.TrainSeconds ?? 0;
        await MoveAsync(id, State.Queued, State.Preparing, record => TrainingProgress.Reset(record.Progress, log, record.Spec.Training, seconds));
    }

    private async Task EndTrainingAsync(string id, Run run, CancellationToken stopping)
    {
        var committed = await Checkpoints.ListAsync(store, run.Name, stopping);
        var log = await metrics.ActivateAsync(run.Name, stopping);
        await runs.Records.UpdateAsync(id, record =>
        {
            record.LatestCheckpoint = committed is [.., var newest] ? newest.Name : "";
            record.BestCheckpoint = Checkpoints.Best(committed)?.Name ?? "";
            var now = time.GetUtcNow();
            if (record.State == State.Cancelling)
            {
                RunStates.Move(record, State.Cancelled, now);
                return true;
            }

            RunEvents.Add(record, RunEvents.TrainingFinished, FormattableString.Invariant(
                $"{log.Last?.Step ?? 0} {(log.Last?.Step == 1 ? "step" : "steps")} in {record.Progress.TrainSeconds:F1} s{HowItEnded(record, log.Last?.Step ?? 0)}; newest checkpoint {record.LatestCheckpoint}, best {(record.BestCheckpoint.Length > 0 ? record.BestCheckpoint : "not measured")}."), now);
            RunStates.Move(record, State.Evaluating, now);
            return true;
        }, durable: true, CancellationToken.None);
    }

    private static string HowItEnded(Run run, long step) =>
        run.Spec.Training is not { } training || step >= training.Steps ? ""
        : training.MaxSeconds > 0 && run.Progress.TrainSeconds >= training.MaxSeconds ? " (training.max_seconds)"
        : training.Patience > 0 ? FormattableString.Invariant($" (stopped early: {training.Patience} validations without improvement)")
        : "";

    private async Task EvaluatedAsync(string id, Run run, LlmPipeline.Evaluations.V1.EvaluationResult result)
    {
        var gate = run.Spec.Publish.MaxLoss;
        // A loss that is not a number does not pass either.
        var passes = gate <= 0 || result.Model?.Loss <= gate;
        if (passes)
        {
            await MoveAsync(id, State.Evaluating, State.Publishing, record => Measured(record));
            return;
        }

        await runs.Records.UpdateAsync(id, record => Measured(record));
        throw new StageFailedException(ErrorReasons.GateNotPassed, FormattableString.Invariant(
            $"The evaluated loss of {EvaluatingStage.Chosen(run)} is {result.Model?.Loss:F4} {LossUnit.Of(result)}, above publish.max_loss {gate}: the model is not published. Train longer, or create a run with a higher publish.max_loss."));

        bool Measured(Run record)
        {
            record.Evaluation = result;
            var beside = result.Classification is { } classes ? FormattableString.Invariant($"accuracy {classes.Accuracy:P1}")
                : FormattableString.Invariant($"{(result.Model?.Objective == "masked" ? "pseudo-perplexity" : "perplexity")} {result.Model?.Perplexity:F2}");
            RunEvents.Add(record, RunEvents.Evaluated, FormattableString.Invariant(
                $"{result.Name}: loss {result.Model?.Loss:F4} {LossUnit.Of(result)}, {beside}{(result.Model?.ImpossibleCount > 0 ? $"; {result.Model.ImpossibleCount} of {result.Model.TokenCount} tokens have probability 0" : "")}."), time.GetUtcNow());
            return true;
        }
    }

    /// <summary>A run found in CANCELLING: workers may still train it, and are asked to write a checkpoint.</summary>
    private async Task FinishCancellingAsync(string id, Run run, bool restarted, CancellationTokenSource cancel, CancellationToken stopping)
    {
        if (restarted && run.Dataset.Length > 0 && run.Evaluation is null)
        {
            await cancel.CancelAsync();
            await training.RunAsync(id, CancelTask(cancel), restarted, stopping);
            await EndTrainingAsync(id, run, stopping);
        }
        else
        {
            await MoveAsync(id, State.Cancelling, State.Cancelled);
        }
    }

    private async Task FailAsync(string id, Run run, RunError error, Exception exception)
    {
        LogFailed(exception, run.Name, RunStates.NameOf(run.State), error.Reason, error.Message);
        await runs.Records.UpdateAsync(id, record =>
        {
            if (RunStates.IsTerminal(record.State))
            {
                return false;
            }

            if (record.State == State.Cancelling)
            {
                RunStates.Move(record, State.Cancelled, time.GetUtcNow(), $"it could not go on anyway: {error.Message}");
                return true;
            }

            record.Error = error;
            RunStates.Move(record, State.Failed, time.GetUtcNow(), error.Message);
            return true;
        });
    }

    /// <summary>Records what a stage brought and the next state. A run that was cancelled meanwhile stays CANCELLING.</summary>
    private Task<RecordVersion<Run>> MoveAsync(string id, State from, State to, Action<Run>? change = null) => runs.Records.UpdateAsync(id, record =>
    {
        if (record.State != from)
        {
            return false;
        }

        change?.Invoke(record);
        RunStates.Move(record, to, time.GetUtcNow());
        return true;
    });

    private async Task WatchForCancelAsync(string id, CancellationTokenSource cancel, CancellationToken over)
    {
        while (true)
        {
            var next = runs.Changed.Next;
            if (Current(id).State == State.Cancelling)
            {
                await cancel.CancelAsync();
                return;
            }

            await next.WaitAsync(over);
        }
    }

    private static Task CancelTask(CancellationTokenSource cancel) =>
        Task.Delay(Timeout.Infinite, cancel.Token).ContinueWith(_ => { }, CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);

    private ServiceCall Service(string id, string name, string key) => new(
        $"{name} ({configuration[key]})", (kind, message) => runs.AddEventAsync(id, kind, message), TimeSpan.FromSeconds(options.Value.PatienceSeconds), time);

    private static bool IsStorage(Exception exception) =>
        StorageFailure.Is(exception) && exception is not (BlobConditionException or BlobNotFoundException or CorruptDirectoryException);

    [LoggerMessage(2010, LogLevel.Information, "{Run} is {State} (attempt {Attempt}).")]
    private partial void LogStage(string run, string state, int attempt);

    [LoggerMessage(2011, LogLevel.Error, "{Run} failed while {State}: {Reason}: {Message}")]
    private partial void LogFailed(Exception exception, string run, string state, string reason, string message);

    [LoggerMessage(2012, LogLevel.Warning, "{Run} cannot go on with {State} while storage fails; trying again in a moment.")]
    private partial void LogStorage(Exception exception, string run, string state);
}
