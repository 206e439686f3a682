using LlmPipeline.Storage;

namespace LlmPipeline.Evaluator;

/// <summary>Does the queued evaluations, one after another.</summary>
internal sealed partial class EvaluationWorker(EvaluationCatalog catalog, EvaluationJob job, EvaluatorTelemetry telemetry, ILogger<EvaluationWorker> logger)
    : BackgroundService, IHostedLifecycleService
{
    private static readonly TimeSpan RetryPause = TimeSpan.FromSeconds(5);

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
            catch (BlobConditionException exception)
            {
                RecordLost(id, exception);
            }
            catch (Exception exception) when (!stoppingToken.IsCancellationRequested)
            {
                // It could not be begun. Storage that does not take this record hardly takes the next one.
                RecordUnwritten(id, exception);
                catalog.Enqueue(id);
                await Task.Delay(RetryPause, stoppingToken);
            }
            finally
            {
                telemetry.QueueChanged(-1);
            }
        }
    }

    [LoggerMessage(3021, LogLevel.Error, "Another process wrote the record of evaluations/{Id}, which is left to it")]
    private partial void RecordLost(string id, Exception exception);

    [LoggerMessage(3022, LogLevel.Warning, "The record of evaluations/{Id} could not be written, and the evaluation is queued again")]
    private partial void RecordUnwritten(string id, Exception exception);
}
