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

    [Fact]
    public Task AFrozenWorkerIsLeftBehindAndComesBack() => ShortForm.RunAsync(WorkerLoss.Frozen, setup, output);

    [Fact]
    public Task ALateWorkerTakesPartWithoutHoldingTheOthersUp() => ShortForm.RunAsync(WorkerLoss.Late, setup, output);

    [Fact]
    public Task AFlappingWorkerHoldsNobodyUp() => ShortForm.RunAsync(WorkerLoss.Flapping, setup, output);

    [Fact]
    public Task WithoutEnoughWorkersARunWaitsAndCostsNothing() => ShortForm.RunAsync(WorkerLoss.NobodyLeft, setup, output);

    [Fact]
    public Task AWorkerKilledForMemoryCostsNoStepAndTheCauseIsTold() => ShortForm.RunAsync(WorkerLoss.OutOfMemory, setup, output);
}
