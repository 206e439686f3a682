using TorchSharp;

namespace LlmPipeline.Models.Tests;

public sealed class PrecisionTests
{
    private static readonly int[] Ids = TestModels.RandomIds(49, 3);

    private static int[] Inputs => Ids[..48];

    private static int[] Targets => Ids[1..];

    [Theory]
    [InlineData("gpt2")]
    [InlineData("llama")]
    public void Bf16GradientsPointWhereFp32GradientsDo(string architecture)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Autocast is Linux's.");
        using var model = TestModels.Create(architecture == "gpt2" ? TestModels.Tiny : TestModels.TinyLlama);
        var exact = TestModels.GradientsOf(model, Inputs, Targets, 4);
        var loss = model.AccumulateGradients(Inputs, Targets, 4, 0, 0);
        model.Precision = Precision.Bf16;
        var rounded = TestModels.GradientsOf(model, Inputs, Targets, 4);
        var roundedLoss = model.AccumulateGradients(Inputs, Targets, 4, 0, 0);

        Assert.NotEqual(exact, rounded);
        Assert.NotEqual(loss, roundedLoss);
        Assert.Equal(loss, roundedLoss, 0.02 * loss);
        var (dot, a, b) = (0.0, 0.0, 0.0);
        for (var i = 0; i < exact.Length; i++)
        {
            (dot, a, b) = (dot + ((double)exact[i] * rounded[i]), a + ((double)exact[i] * exact[i]), b + ((double)rounded[i] * rounded[i]));
        }

        Assert.InRange(dot / Math.Sqrt(a * b), 0.999, 1);
        Assert.InRange(Math.Sqrt(b / a), 0.98, 1.02);
    }

    [Fact]
    public void Bf16GivesTheSameBitsAgain()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Autocast is Linux's.");
        using var model = TestModels.Create(TestModels.Tiny with { Dropout = 0.1 });
        model.Precision = Precision.Bf16;
        var first = TestModels.GradientsOf(model, Inputs, Targets, 4, dropoutSeed: 5);
        Assert.Equal(first, TestModels.GradientsOf(model, Inputs, Targets, 4, dropoutSeed: 5));
    }

    [Fact]
    public void EvaluationAndGenerationAreFp32WhateverTrainingIs()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Autocast is Linux's.");
        using var model = TestModels.Create();
        var (evaluated, logits, generated) = Everything();
        model.Precision = Precision.Bf16;
        TestModels.GradientsOf(model, Inputs, Targets, 4);
        var again = Everything();
        Assert.Equal(evaluated, again.Evaluated);
        Assert.Equal(logits, again.Logits);
        Assert.Equal(generated, again.Generated);

        ((double, long) Evaluated, float[] Logits, float[] Generated) Everything()
        {
            using var state = model.BeginGeneration(1);
            var last = new float[29];
            state.Append(Ids.AsSpan(0, 5), last);
            return (model.Evaluate(Inputs, Targets, 4), TestModels.ForwardLogits(model, Inputs, 4), last);
        }
    }

    [Fact]
    public void AutocastEndsWithItsScopeAndNests()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Autocast is Linux's.");
        TorchRuntime.Initialize();
        using var a = torch.rand(4, 4);
        Assert.Equal(torch.float32, Product());
        using (Autocast.Begin(Precision.Bf16, torch.CPU))
        {
            using (Autocast.Begin(Precision.Bf16, torch.CPU))
            {
                Assert.Equal(torch.bfloat16, Product());
            }

            Assert.Equal(torch.bfloat16, Product());
        }

        Assert.Equal(torch.float32, Product());
        Assert.Null(Autocast.Begin(Precision.Fp32, torch.CPU));

        torch.ScalarType Product()
        {
            using var product = a.mm(a);
            return product.dtype;
        }
    }

    [Fact]
    public void WhatCannotBeComputedHereIsRefusedWithWords()
    {
        var message = Assert.Throws<NotSupportedException>(() => Autocast.Require(Precision.Fp16, torch.CPU)).Message;
        Assert.Contains("Take bf16 or fp32", message, StringComparison.Ordinal);
        Autocast.Require(Precision.Fp32, torch.CPU);
    }

    [Fact]
    public void NoTensorOutlivesAPass()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Autocast is Linux's.");
        using var model = TestModels.Create(TestModels.Tiny with { Dropout = 0.1 });
        model.Precision = Precision.Bf16;
        TestModels.GradientsOf(model, Inputs, Targets, 4);
        var alive = DisposeScopeManager.Statistics.ThreadTotalLiveCount;
        for (var i = 0; i < 20; i++)
        {
            TestModels.GradientsOf(model, Inputs, Targets, 4);
        }

        Assert.Equal(alive, DisposeScopeManager.Statistics.ThreadTotalLiveCount);
    }
}
