using LlmPipeline.Runs.V1;
using LlmPipeline.Storage;

namespace LlmPipeline.Trainer.Coordinator.Reports;

/// <summary>Makes reports, and writes those of runs that are over to <c>runs/{r}/report.md</c> and beside it.</summary>
internal sealed partial class RunReports(StepMetricsCatalog metrics, IBlobStore store, ILogger<RunReports> logger)
{
    /// <summary>The report as it is now.</summary>
    public async Task<IReadOnlyList<ReportFile>> MakeAsync(Run run, CancellationToken cancellationToken)
    {
        var log = await metrics.GetAsync(run.Name, cancellationToken);
        return new RunReport(run, log.After(0, int.MaxValue)).Files();
    }

    /// <summary>Writes the report of a run that is over. That it cannot be written changes nothing for the run.</summary>
    public async Task WriteAsync(Run run, CancellationToken cancellationToken)
    {
        try
        {
            foreach (var file in await MakeAsync(run, cancellationToken))
            {
                await store.WriteTextAsync($"{run.Name}/{file.Path}", file.Text, default, cancellationToken);
            }
        }
        catch (Exception exception) when (StorageFailure.Is(exception))
        {
            LogFailed(exception, run.Name);
        }
    }

    [LoggerMessage(2040, LogLevel.Warning, "The report of {Run} could not be written; 'llmpipe runs report' makes it again.")]
    private partial void LogFailed(Exception exception, string run);
}
