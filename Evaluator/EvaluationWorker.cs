namespace LlmPipeline.Evaluator;

/// <summary>Does the queued evaluations, one after another.</summary>
internal sealed partial class EvaluationWorker(EvaluationCatalog catalog, EvaluationJob job, EvaluatorTelemetry telemetry, ILogger<EvaluationWorker> logger)
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

    [LoggerMessage(3021, LogLevel.Error, "The record of evaluations/{Id} could not be written")]
    private partial void RecordLost(string id, Exception exception);
}
