namespace LlmPipeline.AppHost.Tests;

public sealed class OptionsTests
{
    [Fact]
    public void WithoutArgumentsThereAreTwoWorkersAndNoQuickstart()
    {
        Assert.True(Options.TryRead([], out var options));

        Assert.Equal((2, false, false), (options.Workers, options.Quickstart, options.Azurite));
        Assert.Equal("auto", options.DeviceOf(1));
        Assert.Empty(options.Arguments);
    }

    [Fact]
    public void FlagsNeedNoValueWhereverTheyStand()
    {
        Assert.True(Options.TryRead(["--quickstart", "--workers", "3", "--verbose", "--text=texts", "--A:B", "c"], out var options));

        Assert.True(options.Quickstart);
        Assert.Equal(3, options.Workers);
        Assert.Equal(["--workers", "3", "--text", Path.GetFullPath("texts")], options.QuickstartArguments);
        Assert.Equal(["--quickstart=true", "--workers=3", "--verbose=true", "--text=texts", "--A:B=c"], options.Arguments);
    }

    [Fact]
    public void CudaWorkersAreSpreadOverTheGpus()
    {
        Assert.True(Options.TryRead(["--device", "cuda", "--gpus", "2"], out var options));

        Assert.Equal(["cuda:0", "cuda:1", "cuda:0"], Enumerable.Range(0, 3).Select(options.DeviceOf));
    }

    [Theory]
    [InlineData("--workers is '0'", "--workers", "0")]
    [InlineData("--workers is 'many'", "--workers=many")]
    [InlineData("--device is 'tpu'", "--device", "tpu")]
    [InlineData("--grpc-port is '0'", "--grpc-port=0")]
    [InlineData("--gpus is '-1'", "--gpus=-1")]
    [InlineData("There is no option --wrokers", "--wrokers", "3")]
    [InlineData("'quickstart' is not an option", "quickstart")]
    [InlineData("--workers wants a value", "--workers")]
    [InlineData("--text belongs to --quickstart", "--text", "x")]
    public void AWrongArgumentIsNamed(string message, params string[] arguments) =>
        Assert.StartsWith(message, Options.Check(arguments), StringComparison.Ordinal);
}
