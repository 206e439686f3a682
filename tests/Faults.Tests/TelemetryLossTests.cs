using LlmPipeline.Faults.Scenarios;

namespace LlmPipeline.Faults.Tests;

/// <summary>Collectors of telemetry that do not take what is sent, as real processes.</summary>
[Collection(ProcessCollection.Name)]
public sealed class TelemetryLossTests(ReferenceSetup setup, ITestOutputHelper output)
{
    [Fact]
    public Task TrainingDoesNotWaitForTheCollector() => ShortForm.RunAsync(TelemetryLoss.InTurns, setup, output);
}
