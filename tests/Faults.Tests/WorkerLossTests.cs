using LlmPipeline.Faults.Scenarios;

namespace LlmPipeline.Faults.Tests;

/// <summary>Workers that die, freeze or come late, as real processes.</summary>
[Collection(ProcessCollection.Name)]
public sealed class WorkerLossTests(ReferenceSetup setup, ITestOutputHelper output)
{
    [Fact]
    public Task AKilledWorkerCostsNoStep() => ShortForm.RunAsync(WorkerLoss.OneKilled, setup, output);

    [Fact]
    public Task TwoKilledAtOnceCostNoStep() => ShortForm.RunAsync(WorkerLoss.TwoKilled, setup, output);
}
