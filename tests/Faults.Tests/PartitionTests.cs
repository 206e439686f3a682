using LlmPipeline.Faults.Scenarios;

namespace LlmPipeline.Faults.Tests;

/// <summary>Networks that are cut, and wrong messages, as real processes.</summary>
[Collection(ProcessCollection.Name)]
public sealed class PartitionTests(ReferenceSetup setup, ITestOutputHelper output)
{
    [Fact]
    public Task APartitionFromTheCoordinatorIsBridgedOrEndsInACleanReturn() => ShortForm.RunAsync(Partitions.FromCoordinator, setup, output);

    [Fact]
    public Task AWorkerThatCannotReceiveIsEvictedAndComesBack() => ShortForm.RunAsync(Partitions.OneWay, setup, output);

    [Fact]
    public Task AChunkOfTheWrongShapeIsRefusedAndTold() => ShortForm.RunAsync(Partitions.WrongChunk, setup, output);

    [Fact]
    public Task GradientsThatAreNotFiniteCountForNothingAndTheirWorkerIsNamed() => ShortForm.RunAsync(Partitions.NotFinite, setup, output);
}
