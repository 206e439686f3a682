using TorchSharp;

namespace LlmPipeline.Models.Tests;

public sealed class RecurrentInitialValuesTests
{
    [Theory]
    [InlineData("rnn", 1, 21)]
    [InlineData("lstm", 4, 16)]
    [InlineData("gru", 3, 37)]
    public void EachGateKeepsTheLengthOfAState(string architecture, int gates, int width)
    {
        using var model = Create(architecture, width, seed: 3);
        for (var gate = 0; gate < gates; gate++)
        {
            var matrix = model.Parameters.ValuesOf($"{architecture}.weight_hh_l1").Slice(gate * width * width, width * width).ToArray();
            for (var i = 0; i < width; i++)
            {
                for (var k = 0; k <= i; k++)
                {
                    var product = Enumerable.Range(0, width).Sum(j => (double)matrix[(i * width) + j] * matrix[(k * width) + j]);
                    Assert.Equal(i == k ? 1 : 0, product, 1e-6);
                }
            }
        }
    }

    [Fact]
    public void GatesDiffer()
    {
        using var model = Create("lstm", 16, seed: 3);
        var weights = model.Parameters.ValuesOf("lstm.weight_hh_l0");
        Assert.NotEqual(weights[..256].ToArray(), weights[256..512].ToArray());
        Assert.NotEqual(weights.ToArray(), model.Parameters.ValuesOf("lstm.weight_hh_l1").ToArray());
    }

    [Fact]
    public void InputsHaveGlorotsRangeAndBiasesAreZero()
    {
        using var model = Create("lstm", 64, seed: 4);
        var bound = (float)Math.Sqrt(6.0 / (24 + 64));
        var weights = model.Parameters.ValuesOf("lstm.weight_ih_l0").ToArray();
        Assert.InRange(weights.Max(), 0.99f * bound, bound);
        Assert.InRange(weights.Min(), -bound, -0.99f * bound);
        Assert.All(model.Parameters.ValuesOf("lstm.bias_hh_l1").ToArray(), b => Assert.Equal(0, b));
    }

    private static LanguageModel Create(string architecture, int width, long seed)
    {
        TorchRuntime.Initialize();
        return LanguageModel.Create(
            new ModelConfig { Architecture = architecture, VocabularySize = 29, Layers = 2, Width = width, EmbeddingWidth = 24, Context = 12, EndOfTextId = 28, Tied = false }, seed, torch.CPU);
    }
}
