namespace LlmPipeline.Models.Tests;

public sealed class LargeVocabularyTests
{
    // As for a vocabulary that is too large for all logits at once: 5 rows at a time, of 48, some of which have no target.
    [Theory]
    [InlineData("gpt2", false)]
    [InlineData("llama", false)]
    [InlineData("gpt2", true)]
    public void LogitsInPartsGiveTheSameLossAndGradient(string architecture, bool bf16)
    {
        Assert.SkipUnless(!bf16 || OperatingSystem.IsLinux(), "Autocast is Linux's.");
        using var model = TestModels.Create(architecture == "gpt2" ? TestModels.Tiny : TestModels.TinyLlama);
        model.Precision = bf16 ? Precision.Bf16 : Precision.Fp32;
        var (inputs, targets) = (TestModels.RandomIds(48, 4), TestModels.RandomIds(48, 5));
        (targets[3], targets[17]) = (LanguageModel.IgnoredTarget, LanguageModel.IgnoredTarget);
        var expected = TestModels.GradientsOf(model, inputs, targets, 4);
        var loss = model.AccumulateGradients(inputs, targets, 4, 0, 0);

        model.LargestLogits = 5 * 29;
        var inParts = TestModels.GradientsOf(model, inputs, targets, 4);
        Assert.Equal(loss, model.AccumulateGradients(inputs, targets, 4, 0, 0), 1e-5);
        Assert.NotEqual(expected, inParts);
        var tolerance = bf16 ? 1e-2 : 1e-5;
        var largest = expected.Max(Math.Abs);
        for (var i = 0; i < expected.Length; i++)
        {
            Assert.Equal(expected[i], inParts[i], tolerance * largest);
        }
    }
}
