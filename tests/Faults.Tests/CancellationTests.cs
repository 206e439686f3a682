using LlmPipeline.Faults.Scenarios;

namespace LlmPipeline.Faults.Tests;

/// <summary>Runs that are cancelled, as real processes.</summary>
[Collection(ProcessCollection.Name)]
public sealed class CancellationTests(ReferenceSetup setup, ITestOutputHelper output)
{
    [Fact]
    public Task ACancelledRunEndsInEachOfItsPhases() => ShortForm.RunAsync(Cancellation.InEachPhase, setup, output);
}
