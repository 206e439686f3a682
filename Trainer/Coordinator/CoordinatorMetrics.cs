using System.Diagnostics.Metrics;
using LlmPipeline.Runs.V1;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary>Instruments of the coordinator, in the trainer's meter.</summary>
internal sealed class CoordinatorMetrics
{
    /// <summary>Makes the instruments.</summary>
    public CoordinatorMetrics(IMeterFactory factory, RunCatalog runs, EpochManager epochs)
    {
        var meter = factory.Create(TrainerMetrics.Name);
        meter.CreateObservableGauge("llmpipeline.runs.queued", () => Count(runs, r => r.State == Run.Types.State.Queued), "{run}", "Runs that wait for their turn.");
        meter.CreateObservableGauge("llmpipeline.runs.active", () => Count(runs, r => r.State != Run.Types.State.Queued && !RunStates.IsTerminal(r.State)), "{run}", "Runs that are worked on.");
        meter.CreateObservableGauge("llmpipeline.coordinator.workers", () => epochs.WorkerCount, "{worker}", "Workers that send heartbeats.");
    }

    private static int Count(RunCatalog runs, Func<Run, bool> which) => runs.IsOpen ? runs.Records.All.Count(r => which(r.Value)) : 0;
}
