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

    [Fact]
    public void NoOperationIsCountedThatIsNotNeeded()
    {
        const int Block = (12 * 128 * 128) + (2 * 128), Attention = 128 * 64, Embedding = 65 * 128;
        var config = new ModelConfig { VocabularySize = 65, Layers = 4, Heads = 4, Width = 128, Context = 64, Bias = false };
        using var frozen = TestModels.Create(config with { Tuning = new TuningOptions { FrozenBlocks = 3, FrozenEmbedding = true } });
        Assert.Equal((3 * ((2 * Block) + (4 * Attention))) + (6 * (Block + 128)) + (12 * Attention) + (4 * Embedding), frozen.FlopsPerToken(64));

        var lora = new LoraOptions { Rank = 2, Alpha = 4, Targets = ["c_attn"] };
        using var adapted = TestModels.Create(config with { Tuning = new TuningOptions { Lora = lora } });
        Assert.Equal((4 * ((4 * Block) + (6 * 2 * (128 + 384)) + (12 * Attention))) + (4 * (128 + Embedding)), adapted.FlopsPerToken(64));

        using var masked = TestModels.Create(config with { Objective = Objective.Masked, MaskTokenId = 64 });
        Assert.Equal((4 * ((6 * Block) + (12 * Attention))) + (6 * (128 + (0.15 * Embedding))), masked.FlopsPerToken(64), 1e-6);
    }
}
