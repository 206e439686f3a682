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

/// <summary>Makes one dataset and keeps its record up to date.</summary>
internal sealed partial class DatasetJob(
    IBlobStore store, DatasetCatalog catalog, IOptions<PreprocessorOptions> options, PreprocessorTelemetry telemetry, ILogger<DatasetJob> logger)
{
    private static readonly TimeSpan ProgressInterval = TimeSpan.FromMilliseconds(250);

    private readonly DatasetBuilder _builder = new(store, new DatasetBuilderOptions(
        options.Value.ScratchFolder, options.Value.Parallelism > 0 ? options.Value.Parallelism : Environment.ProcessorCount));

    /// <summary>Works until the dataset is READY or FAILED. A stop in between leaves the record as it is, for the next process.</summary>
    public async Task RunAsync(string id, CancellationToken cancellationToken)
    {
        var dataset = catalog.Records.TryGet(id)!.Value;
        if (DatasetCatalog.IsTerminal(dataset))
        {
            return;
        }

        using var activity = telemetry.StartDataset(dataset.Name, dataset.Traceparent);
        var started = Stopwatch.GetTimestamp();
        try
        {
            var properties = await CommittedDataset.TryFindAsync(store, dataset, cancellationToken) ?? await BuildAsync(id, dataset, cancellationToken);
            await catalog.Records.UpdateAsync(id, d => Finish(d, properties), durable: true, cancellationToken);
            DatasetReady(dataset.Name, Stopwatch.GetElapsedTime(started).TotalSeconds);
        }
        catch (Exception exception) when (!cancellationToken.IsCancellationRequested)
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

            await catalog.Records.UpdateAsync(id, d => Fail(d, error), durable: true, cancellationToken);
        }
    }

    private async Task<DatasetProperties> BuildAsync(string id, Dataset dataset, CancellationToken cancellationToken)
    {
        if (DatasetCatalog.Fingerprint(dataset.Spec, await SourceFiles.FindAsync(dataset.Spec.Sources, new SourceOptions(), cancellationToken)) != dataset.Fingerprint)
        {
            throw new TextSourceException(TextSourceProblem.Changed, "The source files changed after the dataset was created. Create it again.");
        }

        var progress = new BuildProgress();
        var started = Stopwatch.GetTimestamp();
        using var finished = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var reporting = ReportAsync(id, progress, started, finished.Token);
        Activity? stageActivity = null;
        try
        {
            var target = new DatasetTarget(dataset.Name, JsonNode.Parse(JsonFormatter.Default.Format(dataset.Spec)), dataset.Fingerprint);
            return await _builder.BuildAsync(DatasetSpecResolver.ToRecipe(dataset.Spec), target, progress, BeginStageAsync, cancellationToken);
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
            await reporting;
        }

        async Task BeginStageAsync(BuildStage stage)
        {
            stageActivity?.Dispose();
            stageActivity = telemetry.StartStage(stage, dataset.Name);
            await catalog.Records.UpdateAsync(id, d =>
            {
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

    private async Task ReportAsync(string id, BuildProgress progress, long started, CancellationToken cancellationToken)
    {
        long documents = 0, bytes = 0, tokens = 0;
        using var timer = new PeriodicTimer(ProgressInterval);
        try
        {
            while (await timer.WaitForNextTickAsync(cancellationToken))
            {
                Count();
                await catalog.Records.UpdateAsync(id, d =>
                {
                    d.Progress = Snapshot(progress, started);
                    return true;
                }, durable: false, cancellationToken);
            }
        }
        catch (OperationCanceledException)
        {
            Count();
        }

        void Count()
        {
            telemetry.Count(progress.Documents - documents, progress.SourceBytes - bytes, progress.Tokens - tokens);
            (documents, bytes, tokens) = (progress.Documents, progress.SourceBytes, progress.Tokens);
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
        dataset.Splits.Clear();
        dataset.Splits.AddRange(properties.Splits.Select(s => new SplitStatistics
        {
            Split = s.Split,
            DocumentCount = s.DocumentCount,
            TokenCount = s.TokenCount,
            ByteCount = s.ByteCount,
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

    [LoggerMessage(1013, LogLevel.Error, "{Dataset} failed unexpectedly")]
    private partial void DatasetBroke(string dataset, Exception exception);
}
