namespace LlmPipeline.Text.Tests;

public sealed class PlaceholderTests
{
    [Fact]
    public void Builds() => Assert.True(Environment.ProcessorCount > 0);
}
