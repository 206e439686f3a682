namespace LlmPipeline.Trainer.Tests;

/// <summary>Tests that measure the whole process, such as what it allocates: no others run beside them.</summary>
[CollectionDefinition(Name, DisableParallelization = true)]
public sealed class AloneCollection
{
    public const string Name = "Alone";
}
