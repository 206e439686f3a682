using System.Diagnostics;
using System.Text.Json.Nodes;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using LlmPipeline.Datasets.V1;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;
using LlmPipeline.Text.Building;
using LlmPipeline.Text.Shards;
using LlmPipeline.Text.Sources;
using Microsoft.Extensions.Options;

namespace LlmPipeline.Preprocessor;

/// <summary>Makes one dataset and keeps its record up to date, or helps the replica that does.</summary>
internal sealed partial class DatasetJob(
    IBlobStore store, DatasetCatalog catalog, IOptions<PreprocessorOptions> options, PreprocessorTelemetry telemetry, ILogger<DatasetJob> logger)
{
    private static readonly TimeSpan ProgressInterval = TimeSpan.FromMilliseconds(250);

    // Other replicas read the record; for those who watch this one, progress need not be stored.
    private static readonly TimeSpan StoreInterval = TimeSpan.FromSeconds(2);

    private readonly DatasetBuilder _builder = new(store, new DatasetBuilderOptions(
        options.Value.ScratchFolder, options.Value.Parallelism > 0 ? options.Value.Parallelism : Environment.ProcessorCount)
    {
        Sources = options.Value.Sources(),
        UnitBytes = Math.Max(1, options.Value.UnitBytes),
    });

    /// <summary>The right to make a dataset; null when another replica has it.</summary>
    public Task<HeldLease?> TryOwnAsync(string id, CancellationToken cancellationToken) =>
        HeldLease.TryTakeAsync(store, $"datasets/{id}/owner", cancellationToken: cancellationToken);

    /// <summary>Works until the dataset is in a terminal state. A stop in between leaves it as it is, for the next replica.</summary>
    public async Task RunAsync(string id, HeldLease lease, CancellationToken cancellationToken)
    {
        if (await catalog.Records.RefreshAsync(id, cancellationToken) is not { Value: var dataset } || DatasetCatalog.IsTerminal(dataset))
        {
            return;
        }

        using var activity = telemetry.StartDataset(dataset.Name, dataset.Traceparent);
        using var over = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, lease.Lost);
        var started = Stopwatch.GetTimestamp();
        var watching = CancelWhenTerminalAsync(id, over);
        try
        {
            var properties = await CommittedDataset.TryFindAsync(store, dataset, over.Token) ?? await BuildAsync(id, dataset, lease, over.Token);
            await FinishAsync(id, lease, d => Finish(d, properties), cancellationToken);
            DatasetReady(dataset.Name, Stopwatch.GetElapsedTime(started).TotalSeconds);
        }
        catch (Exception exception) when (!cancellationToken.IsCancellationRequested)
        {
            if (!over.IsCancellationRequested)
            {
                await FailAsync(id, dataset, lease, exception, activity, cancellationToken);
            }
            else if (lease.Lost.IsCancellationRequested)
            {
                LeaseLost(dataset.Name);
                return;
            }
        }
        finally
        {
            await over.CancelAsync();
            await watching.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }

        if (await lease.ConfirmAsync(cancellationToken))
        {
            await _builder.CleanAsync(dataset.Name, cancellationToken);
        }
    }

    /// <summary>Works on pieces of a dataset that another replica makes; false when there was none to work on.</summary>
    public async Task<bool> HelpAsync(string id, CancellationToken cancellationToken)
    {
        var dataset = catalog.Records.TryGet(id)!.Value;
        using var over = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var watching = CancelWhenTerminalAsync(id, over);
        var progress = new BuildProgress();
        var counting = CountAsync(progress, over.Token);
        try
        {
            return await _builder.HelpAsync(dataset.Name, progress, over.Token);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            return false;
        }
        catch (Exception exception) when (DatasetErrors.From(exception) is not null)
        {
            // The replica that makes the dataset meets it too, and says so.
            HelpFailed(dataset.Name, exception);
            return false;
        }
        finally
        {
            await over.CancelAsync();
            await Task.WhenAll(watching, counting).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    /// <summary>Removes what was left of a dataset that nobody makes any more.</summary>
    public async Task RemoveLeftoversAsync(string id, CancellationToken cancellationToken)
    {
        if (!await store.ListAsync($"datasets/{id}/work/", cancellationToken).AnyAsync(cancellationToken))
        {
            return;
        }

        await using var lease = await TryOwnAsync(id, cancellationToken);
        if (lease is not null && await catalog.Records.RefreshAsync(id, cancellationToken) is { } record && DatasetCatalog.IsTerminal(record.Value))
        {
            await _builder.CleanAsync(record.Value.Name, cancellationToken);
        }
    }

    private async Task<DatasetProperties> BuildAsync(string id, Dataset dataset, HeldLease lease, CancellationToken cancellationToken)
    {
        var progress = new BuildProgress();
        var started = Stopwatch.GetTimestamp();
        using var finished = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var reporting = ReportAsync(id, progress, started, finished.Token);
        var counting = CountAsync(progress, finished.Token);
        Activity? stageActivity = null;
        try
        {
            var target = new DatasetTarget(dataset.Name, JsonNode.Parse(JsonFormatter.Default.Format(dataset.Spec)), dataset.Fingerprint);
            return await _builder.BuildAsync(DatasetRecipes.Of(dataset.Spec), target, progress, BeginStageAsync, lease, cancellationToken);
        }
        catch (Exception exception)
        {
            stageActivity?.SetStatus(ActivityStatusCode.Error, exception.Message);
            throw;
        }
        finally
        {
            stageActivity?.Dispose();
            await finished.CancelAsync();
            await Task.WhenAll(reporting, counting).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }

        async Task BeginStageAsync(BuildStage stage)
        {
            stageActivity?.Dispose();
            if (stage == BuildStage.Reading)
            {
                await RequireSameSourcesAsync(dataset, cancellationToken);
            }

            stageActivity = telemetry.StartStage(stage, dataset.Name);
            await catalog.UpdateAsync(id, d =>
            {
                if (DatasetCatalog.IsTerminal(d))
                {
                    return false;
                }

                d.State = stage switch
                {
                    BuildStage.Reading => Dataset.Types.State.Reading,
                    BuildStage.TrainingTokenizer => Dataset.Types.State.TokenizerTraining,
                    _ => Dataset.Types.State.Tokenizing,
                };
                d.Progress = Snapshot(progress, started);
                return true;
            }, durable: true, cancellationToken);
        }
    }

    private async Task RequireSameSourcesAsync(Dataset dataset, CancellationToken cancellationToken)
    {
        if (DatasetCatalog.Fingerprint(dataset.Spec, await DatasetSources.FindAsync(dataset.Spec, options.Value.Sources(), cancellationToken)) != dataset.Fingerprint)
        {
            throw new TextSourceException(TextSourceProblem.Invalid, "The source files changed after the dataset was created. Create it again.");
        }
    }

    private async Task FailAsync(string id, Dataset dataset, HeldLease lease, Exception exception, Activity? activity, CancellationToken cancellationToken)
    {
        activity?.SetStatus(ActivityStatusCode.Error, exception.Message);
        var error = DatasetErrors.From(exception);
        if (error is null)
        {
            DatasetBroke(dataset.Name, exception);
            error = DatasetErrors.Error(ErrorReasons.Internal, "The dataset could not be made, for a reason that is only in the Preprocessor's log. Create it again to retry.");
        }
        else
        {
            DatasetFailed(dataset.Name, error.Message);
        }

        await FinishAsync(id, lease, d => Fail(d, error), cancellationToken);
    }

    // The last word on a dataset, unless another replica has taken over meanwhile.
    private async Task FinishAsync(string id, HeldLease lease, Func<Dataset, bool> change, CancellationToken cancellationToken)
    {
        if (await lease.ConfirmAsync(cancellationToken))
        {
            await catalog.UpdateAsync(id, d => !DatasetCatalog.IsTerminal(d) && change(d), durable: true, cancellationToken);
        }
    }

    // A caller may cancel the dataset at any replica.
    private async Task CancelWhenTerminalAsync(string id, CancellationTokenSource over)
    {
        await foreach (var version in catalog.Records.WatchAsync(id, 0, over.Token))
        {
            if (DatasetCatalog.IsTerminal(version.Value))
            {
                await over.CancelAsync();
                return;
            }
        }
    }

    private async Task ReportAsync(string id, BuildProgress progress, long started, CancellationToken cancellationToken)
    {
        var stored = Stopwatch.GetTimestamp();
        using var timer = new PeriodicTimer(ProgressInterval);
        try
        {
            while (await timer.WaitForNextTickAsync(cancellationToken))
            {
                var store = Stopwatch.GetElapsedTime(stored) >= StoreInterval;
                stored = store ? Stopwatch.GetTimestamp() : stored;
                try
                {
                    await catalog.UpdateAsync(id, d =>
                    {
                        d.Progress = Snapshot(progress, started);
                        return !DatasetCatalog.IsTerminal(d);
                    }, store, cancellationToken);
                }
                catch (Exception exception) when (!cancellationToken.IsCancellationRequested)
                {
                    ProgressUnwritten(id, exception);
                }
            }
        }
        catch (OperationCanceledException)
        {
        }
    }

    // What this replica does, whoever makes the dataset.
    private async Task CountAsync(BuildProgress progress, CancellationToken cancellationToken)
    {
        var (documents, bytes, tokens) = progress.Local;
        using var timer = new PeriodicTimer(ProgressInterval);
        try
        {
            while (await timer.WaitForNextTickAsync(cancellationToken))
            {
                Count();
            }
        }
        catch (OperationCanceledException)
        {
            Count();
        }

        void Count()
        {
            var now = progress.Local;
            telemetry.Count(now.Documents - documents, now.SourceBytes - bytes, now.Tokens - tokens);
            (documents, bytes, tokens) = now;
        }
    }

    private static DatasetProgress Snapshot(BuildProgress progress, long started)
    {
        var elapsed = Stopwatch.GetElapsedTime(started);
        var fraction = progress.Fraction;
        var snapshot = new DatasetProgress
        {
            DocumentCount = progress.Documents,
            ByteCount = progress.SourceBytes,
            TotalByteCount = progress.TotalSourceBytes,
            TokenCount = progress.Tokens,
            DuplicateCount = progress.Duplicates,
            Fraction = fraction,
        };
        if (elapsed > TimeSpan.FromSeconds(1) && fraction > 0.05)
        {
            snapshot.RemainingSeconds = elapsed.TotalSeconds * (1 - fraction) / fraction;
        }

        return snapshot;
    }

    private static bool Finish(Dataset dataset, DatasetProperties properties)
    {
        dataset.State = Dataset.Types.State.Ready;
        dataset.Tokenizer = properties.Tokenizer;
        dataset.VocabularySize = properties.VocabularySize;
        dataset.Labels.Clear();
        dataset.Labels.AddRange(properties.Labels ?? []);
        dataset.Splits.Clear();
        dataset.Splits.AddRange(properties.Splits.Select(s => new SplitStatistics
        {
            Split = s.Split,
            DocumentCount = s.DocumentCount,
            TokenCount = s.TokenCount,
            ByteCount = s.ByteCount,
            UnknownTokenCount = s.UnknownTokenCount,
            UnknownByteCount = s.UnknownByteCount,
        }));
        dataset.Progress = new DatasetProgress
        {
            DocumentCount = properties.DocumentCount,
            ByteCount = properties.SourceByteCount,
            TotalByteCount = properties.SourceByteCount,
            TokenCount = properties.Splits.Sum(s => s.TokenCount),
            DuplicateCount = properties.DuplicateCount,
            Fraction = 1,
            RemainingSeconds = 0,
        };
        dataset.EndTime = Timestamp.FromDateTimeOffset(DateTimeOffset.UtcNow);
        return true;
    }

    private static bool Fail(Dataset dataset, DatasetError error)
    {
        dataset.State = Dataset.Types.State.Failed;
        dataset.Error = error;
        dataset.EndTime = Timestamp.FromDateTimeOffset(DateTimeOffset.UtcNow);
        return true;
    }

    [LoggerMessage(1011, LogLevel.Information, "{Dataset} is ready after {Seconds:F1} s")]
    private partial void DatasetReady(string dataset, double seconds);

    [LoggerMessage(1012, LogLevel.Warning, "{Dataset} failed: {Error}")]
    private partial void DatasetFailed(string dataset, string error);

    [LoggerMessage(1014, LogLevel.Warning, "Another replica has taken over {Dataset}")]
    private partial void LeaseLost(string dataset);

    [LoggerMessage(1015, LogLevel.Warning, "A piece of {Dataset} could not be made here")]
    private partial void HelpFailed(string dataset, Exception exception);

    [LoggerMessage(1016, LogLevel.Warning, "The progress of datasets/{Id} could not be written; the work goes on")]
    private partial void ProgressUnwritten(string id, Exception exception);

    [LoggerMessage(1013, LogLevel.Error, "{Dataset} failed unexpectedly")]
    private partial void DatasetBroke(string dataset, Exception exception);
}
