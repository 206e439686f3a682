namespace LlmPipeline.Storage.Tests;

public sealed class PlaceholderTests
{
    [Fact]
    public void Builds() => Assert.True(Environment.ProcessorCount > 0);
}
