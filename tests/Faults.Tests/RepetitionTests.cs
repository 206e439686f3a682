using LlmPipeline.Faults.Scenarios;

namespace LlmPipeline.Faults.Tests;

/// <summary>The same run again, as real processes.</summary>
[Collection(ProcessCollection.Name)]
public sealed class RepetitionTests(ReferenceSetup setup, ITestOutputHelper output)
{
    [Fact]
    public Task ARunInPiecesIsTheRunInOne() => ShortForm.RunAsync(Repetition.Resumed, setup, output);

    [Fact]
    public Task TheSameRunHasTheSameBits() => ShortForm.RunAsync(Repetition.Again, setup, output);

    [Fact]
    public Task TheSameRunOnTwoThreadsHasTheSameBits() => ShortForm.RunAsync(Repetition.OnTwoThreads, setup, output);
}
