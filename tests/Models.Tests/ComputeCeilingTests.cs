using TorchSharp;

namespace LlmPipeline.Models.Tests;

public sealed class ComputeCeilingTests
{
    [Theory]
    [InlineData(Precision.Fp32)]
    [InlineData(Precision.Bf16)]
    public void TheCeilingIsMeasuredOnceAndIsOfThisWorld(Precision precision)
    {
        var flops = ComputeCeiling.FlopsPerSecond(torch.CPU, precision);
        Assert.InRange(flops, 1e8, 1e14);
        Assert.Equal(flops, ComputeCeiling.FlopsPerSecond(torch.CPU, precision));
    }

    [Fact]
    public void OperationsATokenAreNanoGptsEstimate()
    {
        // shakespeare_char of nanoGPT on a CPU: embedding 65 * 128, blocks 4 * 12 * 128 * 128, norms 9 * 128, besides positions.
        var config = new ModelConfig { VocabularySize = 65, Layers = 4, Heads = 4, Width = 128, Context = 64, Bias = false };
        using var model = TestModels.Create(config);
        Assert.Equal(795_904, model.ParameterCount - (64 * 128));
        Assert.Equal((6 * 795_904) + (12 * 4 * 128 * 64), model.FlopsPerToken(64));
    }
}
