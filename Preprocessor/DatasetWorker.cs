using LlmPipeline.Datasets.V1;
using LlmPipeline.Storage;

namespace LlmPipeline.Preprocessor;

/// <summary>
/// Makes the unfinished datasets, oldest first. Of several replicas one makes a dataset, and the others work on its pieces; where there is
/// nothing to help with, they go on to the next dataset.
/// </summary>
internal sealed partial class DatasetWorker(
    DatasetCatalog catalog, UnfinishedDatasets unfinished, DatasetJob job, PreprocessorTelemetry telemetry, ILogger<DatasetWorker> logger)
    : BackgroundService, IHostedLifecycleService
{
    private static readonly TimeSpan MinPause = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan MaxPause = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan LookInterval = TimeSpan.FromSeconds(1);

    /// <summary>Runs before any endpoint answers.</summary>
    public Task StartingAsync(CancellationToken cancellationToken) => catalog.LoadAsync(cancellationToken);

    public Task StartedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StoppingAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StoppedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        var aside = Task.WhenAll(LookAsync(stoppingToken), RemoveLeftoversAsync(stoppingToken));
        var pause = MinPause;
        while (!stoppingToken.IsCancellationRequested)
        {
            var added = unfinished.Added;
            if (await TryWorkAsync(stoppingToken))
            {
                pause = MinPause;
                continue;
            }

            using var wait = CancellationTokenSource.CreateLinkedTokenSource(stoppingToken);
            await Task.WhenAny(added, Task.Delay(pause, wait.Token));
            await wait.CancelAsync();
            pause = added.IsCompleted ? MinPause : pause * 2 < MaxPause ? pause * 2 : MaxPause;
        }

        telemetry.SetQueueLength(0);
        await aside.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    // False when there was nothing to do.
    private async Task<bool> TryWorkAsync(CancellationToken cancellationToken)
    {
        try
        {
            foreach (var id in await UnfinishedAsync(cancellationToken))
            {
                await using var lease = await job.TryOwnAsync(id, cancellationToken);
                if (lease is null)
                {
                    if (await job.HelpAsync(id, cancellationToken))
                    {
                        return true;
                    }

                    continue;
                }

                await job.RunAsync(id, lease, cancellationToken);
                return true;
            }
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
        }
        catch (Exception exception)
        {
            // Storage is away, or a record could not be written. The dataset stays unfinished, and is looked at again.
            WorkFailed(exception);
        }

        return false;
    }

    // Oldest first. Finished ones are taken off the list.
    private async Task<IReadOnlyList<string>> UnfinishedAsync(CancellationToken cancellationToken)
    {
        var open = new List<(string Id, Dataset Dataset)>();
        foreach (var id in await unfinished.ListAsync(cancellationToken))
        {
            var record = await catalog.Records.RefreshAsync(id, cancellationToken);
            if (record is not null && !DatasetCatalog.IsTerminal(record.Value))
            {
                open.Add((id, record.Value));
                continue;
            }

            await unfinished.RemoveAsync(id, cancellationToken);
            if (await catalog.Records.RefreshAsync(id, cancellationToken) is { } again && !DatasetCatalog.IsTerminal(again.Value))
            {
                // It was begun anew just then.
                await unfinished.AddAsync(id, cancellationToken);
            }
        }

        telemetry.SetQueueLength(open.Count);
        return [.. open.OrderBy(d => d.Dataset.CreateTime?.ToDateTimeOffset()).ThenBy(d => d.Id, StringComparer.Ordinal).Select(d => d.Id)];
    }

    // So that calls to this replica see what the others do.
    private async Task LookAsync(CancellationToken cancellationToken)
    {
        while (true)
        {
            await Task.Delay(LookInterval, cancellationToken);
            try
            {
                foreach (var record in catalog.Records.All.Where(r => !DatasetCatalog.IsTerminal(r.Value)))
                {
                    await catalog.Records.RefreshAsync(ResourceName.IdOf(record.Value.Name, "datasets"), cancellationToken);
                }
            }
            catch (Exception exception) when (!cancellationToken.IsCancellationRequested)
            {
                WorkFailed(exception);
            }
        }
    }

    // What a process that was killed, or that woke up too late, left of datasets that nobody makes any more.
    private async Task RemoveLeftoversAsync(CancellationToken cancellationToken)
    {
        try
        {
            foreach (var record in catalog.Records.All.Where(r => DatasetCatalog.IsTerminal(r.Value)))
            {
                await job.RemoveLeftoversAsync(ResourceName.IdOf(record.Value.Name, "datasets"), cancellationToken);
            }
        }
        catch (Exception exception) when (!cancellationToken.IsCancellationRequested)
        {
            WorkFailed(exception);
        }
    }

    [LoggerMessage(1021, LogLevel.Error, "Work on datasets was interrupted, and is tried again")]
    private partial void WorkFailed(Exception exception);
}
