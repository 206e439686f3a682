namespace LlmPipeline.Preprocessor;

/// <summary>Makes the queued datasets, one after another; each uses all processors.</summary>
internal sealed partial class DatasetWorker(DatasetCatalog catalog, DatasetJob job, PreprocessorTelemetry telemetry, ILogger<DatasetWorker> logger)
    : BackgroundService, IHostedLifecycleService
{
    /// <summary>Runs before any endpoint answers.</summary>
    public Task StartingAsync(CancellationToken cancellationToken) => catalog.LoadAsync(cancellationToken);

    public Task StartedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StoppingAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StoppedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        await foreach (var id in catalog.Queue.ReadAllAsync(stoppingToken))
        {
            try
            {
                await job.RunAsync(id, stoppingToken);
            }
            catch (Exception exception) when (!stoppingToken.IsCancellationRequested)
            {
                // Its record could not be written. The next process finds it unfinished.
                RecordLost(id, exception);
            }
            finally
            {
                telemetry.QueueChanged(-1);
            }
        }
    }

    [LoggerMessage(1021, LogLevel.Error, "The record of datasets/{Id} could not be written")]
    private partial void RecordLost(string id, Exception exception);
}
