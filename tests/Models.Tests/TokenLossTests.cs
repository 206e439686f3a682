using System.Runtime.Intrinsics;
using LlmPipeline.Models.Networks;
using TorchSharp;
using F = TorchSharp.torch.nn.functional;

namespace LlmPipeline.Models.Tests;

public sealed class TokenLossTests
{
    [Theory]
    [InlineData(2, 0)]
    [InlineData(16, 0)]
    [InlineData(29, 0.1)]
    [InlineData(1003, 0)]
    [InlineData(1003, 0.2)]
    public void LossAndGradientAreThoseOfCrossEntropy(int vocabulary, double smoothing)
    {
        TorchRuntime.Initialize();
        using var scope = torch.NewDisposeScope();
        const int Places = 7;
        using var generator = new torch.Generator(3);
        using var range = 30.ToScalar();
        using var middle = 15.ToScalar();
        var x = torch.rand([Places, vocabulary], torch.float32, generator: generator).mul(range).sub(middle);
        var targets = torch.tensor(TestModels.RandomIds(Places, 5, vocabulary).Select(i => (long)i).ToArray());

        var expectedInput = x.to(torch.float64).requires_grad_(true);
        var expected = F.cross_entropy(expectedInput, targets, reduction: torch.nn.Reduction.Sum, label_smoothing: smoothing);
        using var factor = 0.25.ToScalar();
        expected.mul(factor).backward();

        var input = x.clone().requires_grad_(true);
        var sum = TokenLoss.Backward(input.alias(), targets, 0.25f, smoothing).item<double>();
        Assert.Equal(expected.item<double>(), sum, 1e-5 * expected.item<double>());
        Assert.True((input.grad! - expectedInput.grad!).abs().max().item<double>() < 1e-6);
    }

    [Theory]
    [InlineData(float.NaN)]
    [InlineData(float.PositiveInfinity)]
    public void WhatIsNotANumberShows(float value)
    {
        TorchRuntime.Initialize();
        using var scope = torch.NewDisposeScope();
        var input = torch.zeros([2, 40]);
        input[1, 3] = value;
        input.requires_grad_(true);
        Assert.True(double.IsNaN(TokenLoss.Backward(input.alias(), torch.tensor([1L, 2L]), 1, 0).item<double>()));
    }

    [Fact]
    public void ExponentialSigmoidAndTangentAreExactToRounding()
    {
        var random = new Random(1);
        for (var n = 0; n < 2000; n++)
        {
            var x = (float)((random.NextDouble() - 0.5) * (n % 2 == 0 ? 2 : 170));
            var (exp, sigmoid, tanh) = (Lanes.Exp(Vector512.Create(x))[5], Lanes.Sigmoid(Vector512.Create(x))[5], Lanes.Tanh(Vector512.Create(x))[5]);
            Assert.True(Math.Abs((exp / Math.Exp(x)) - 1) < 2e-7, $"exp({x}) = {exp}");
            Assert.True(Math.Abs((sigmoid * (1 + Math.Exp(-x))) - 1) < 3e-7, $"sigmoid({x}) = {sigmoid}");
            Assert.True(Math.Abs((tanh / Math.Tanh(x)) - 1) < 3e-7, $"tanh({x}) = {tanh}");
        }

        Assert.True(float.IsNaN(Lanes.Exp(Vector512.Create(float.NaN))[0]));
        Assert.Equal((0f, 1f), (Lanes.Sigmoid(Vector512.Create(float.NegativeInfinity))[0], Lanes.Sigmoid(Vector512.Create(float.PositiveInfinity))[0]), Near);
        Assert.Equal((-1f, 1f), (Lanes.Tanh(Vector512.Create(float.NegativeInfinity))[0], Lanes.Tanh(Vector512.Create(float.PositiveInfinity))[0]), Near);

        static bool Near((float A, float B) x, (float A, float B) y) => Math.Abs(x.A - y.A) < 1e-30 && Math.Abs(x.B - y.B) < 1e-7;
    }

    [Theory]
    [InlineData(1)]
    [InlineData(16)]
    [InlineData(21)]
    public void TheGradientOfRowsIsThatOfAutograd(int width)
    {
        TorchRuntime.Initialize();
        using var scope = torch.NewDisposeScope();
        using var generator = new torch.Generator(3);
        var table = torch.rand([9, width], torch.float32, generator: generator).requires_grad_(true);
        var ids = torch.tensor([3L, 3, 0, 8, 3]);
        var weights = torch.rand([5, width], torch.float32, generator: generator);
        (table.index_select(0, ids) * weights).sum().backward();
        var expected = table.grad!.clone();

        table.grad!.zero_();
        var tape = new Tape();
        (Lookup.Rows(table, ids, new Pass(1) { Tape = tape }) * weights).sum().backward();
        tape.Backward();
        Assert.True((table.grad! - expected).abs().max().item<float>() < 1e-6f);
    }
}
