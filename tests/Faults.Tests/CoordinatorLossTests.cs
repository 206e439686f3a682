using LlmPipeline.Faults.Scenarios;

namespace LlmPipeline.Faults.Tests;

/// <summary>Coordinators that die or are two, and power cuts, as real processes.</summary>
[Collection(ProcessCollection.Name)]
public sealed class CoordinatorLossTests(ReferenceSetup setup, ITestOutputHelper output)
{
    [Fact]
    public Task ACoordinatorThatIsKilledMidStepGoesOn() => ShortForm.RunAsync(CoordinatorLoss.Killed, setup, output);

    [Fact]
    public Task APowerCutGoesBackToAWholeCheckpoint() => ShortForm.RunAsync(CoordinatorLoss.PowerCut, setup, output);

    [Fact]
    public Task OfTwoCoordinatorsOneIsInCharge() => ShortForm.RunAsync(CoordinatorLoss.TwoAtOnce, setup, output);
}
