namespace LlmPipeline.Faults.Tests;

/// <summary>Tests that start processes run one after the other, with one reference run: they are measured against the clock.</summary>
[CollectionDefinition(Name)]
public sealed class ProcessCollection : ICollectionFixture<ReferenceSetup>
{
    public const string Name = "Processes";
}
