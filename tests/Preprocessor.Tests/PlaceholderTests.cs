namespace LlmPipeline.Preprocessor.Tests;

public sealed class PlaceholderTests
{
    [Fact]
    public void Builds() => Assert.True(Environment.ProcessorCount > 0);
}
