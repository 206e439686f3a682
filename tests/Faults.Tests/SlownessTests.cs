using LlmPipeline.Faults.Scenarios;

namespace LlmPipeline.Faults.Tests;

/// <summary>Workers and links that are slow, as real processes.</summary>
[Collection(ProcessCollection.Name)]
public sealed class SlownessTests(ReferenceSetup setup, ITestOutputHelper output)
{
    [Fact]
    public Task ASlowWorkerDoesNotHoldTheOthersUp() => ShortForm.RunAsync(Slowness.Straggler, setup, output);

    [Fact]
    public Task ASlowLinkIsNotALostWorker() => ShortForm.RunAsync(Slowness.SlowLink, setup, output);
}
