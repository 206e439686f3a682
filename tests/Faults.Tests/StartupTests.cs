using LlmPipeline.Faults.Scenarios;

namespace LlmPipeline.Faults.Tests;

/// <summary>Services that are started before those that they need, as real processes.</summary>
[Collection(ProcessCollection.Name)]
public sealed class StartupTests(ReferenceSetup setup, ITestOutputHelper output)
{
    [Fact]
    public Task ServicesComeUpInAnyOrder() => ShortForm.RunAsync(Startup.AnyOrder, setup, output);
}
