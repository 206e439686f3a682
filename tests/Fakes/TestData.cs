using Xunit;

namespace LlmPipeline.Fakes;

/// <summary>Finds the reference texts and outputs that tests compare with.</summary>
public static class TestData
{
    /// <summary>The folder named by <c>LLMPIPELINE_TEST_DATA</c>, or null.</summary>
    public static string? Root => Environment.GetEnvironmentVariable("LLMPIPELINE_TEST_DATA");

    /// <summary>Path of a test file; skips the calling test, visibly, where there is no test data.</summary>
    /// <param name="relativePath">For example <c>tinyshakespeare/input.txt</c>.</param>
    public static string PathOf(string relativePath)
    {
        Assert.SkipWhen(string.IsNullOrEmpty(Root), "Set LLMPIPELINE_TEST_DATA to the folder with the test data.");
        return Path.GetFullPath(Path.Combine(Root!, relativePath));
    }
}
