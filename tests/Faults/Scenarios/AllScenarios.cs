namespace LlmPipeline.Faults.Scenarios;

/// <summary>The list of scenarios, by the number of the reliability test.</summary>
public static class AllScenarios
{
    /// <summary>All.</summary>
    public static IReadOnlyList<Scenario> List { get; } = [.. new[]
    {
        WorkerLoss.OneKilled, WorkerLoss.TwoKilled, WorkerLoss.Frozen, WorkerLoss.Late, WorkerLoss.Flapping, WorkerLoss.NobodyLeft, WorkerLoss.OutOfMemory,
        CoordinatorLoss.Killed, CoordinatorLoss.PowerCut, CoordinatorLoss.TwoAtOnce,
        Repetition.Resumed, Repetition.Again, Repetition.OnTwoThreads,
        Slowness.Straggler, Slowness.SlowLink,
        Partitions.FromCoordinator, Partitions.OneWay, Partitions.WrongChunk, Partitions.NotFinite,
        Cancellation.InEachPhase,
        TelemetryLoss.InTurns,
        Startup.AnyOrder,
    }.OrderBy(s => s.Number)];
}
