namespace LlmPipeline.EndToEnd.Tests;

/// <summary>Tests that start processes run one after the other: they are measured against the clock.</summary>
[CollectionDefinition(Name)]
public sealed class ProcessCollection
{
    public const string Name = "Processes";
}
