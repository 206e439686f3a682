namespace LlmPipeline.Models.Tests;

public sealed class GptNumericsTests
{
    [Fact]
    public void FreshModelPredictsUniformly()
    {
        using var model = TestModels.Create(scale: 1);
        var ids = TestModels.RandomIds(48, 1);
        model.Parameters.ZeroGradients();
        var loss = model.AccumulateGradients(ids, TestModels.RandomIds(48, 2), 4, 1f / 48, 0);
        Assert.InRange(loss, Math.Log(29) - 0.3, Math.Log(29) + 0.3);
    }
}
