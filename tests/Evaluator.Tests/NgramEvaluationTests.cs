using LlmPipeline.Models;
using LlmPipeline.Storage;
using LlmPipeline.Text.NGrams;
using State = LlmPipeline.Evaluations.V1.Evaluation.Types.State;

namespace LlmPipeline.Evaluator.Tests;

public sealed class NgramEvaluationTests
{
    private const string Model = "models/counted/versions/1";

    [Fact]
    public async Task AnNgramModelIsMeasuredLikeAnyOtherBesideTheBaseline()
    {
        using var workshop = await Workshop.OpenAsync();
        var model = await WriteAsync(workshop, new NgramOptions { Order = 4, Smoothing = NgramSmoothing.GoodTuring });
        await using var host = await EvaluatorHost.StartAsync(workshop.StorePath);
        var done = await host.EvaluateAsync(Workshop.Spec(Model));

        using var dataset = await workshop.OpenDatasetAsync();
        var split = dataset.Split("validation");
        var expected = NgramMeasurement.Of(model, split);
        Assert.Equal(State.Succeeded, done.State);
        Assert.Equal(expected.Loss, done.Result.Model.Loss);
        Assert.Equal(Math.Exp(expected.Loss), done.Result.Model.Perplexity);
        Assert.Equal(expected.LossSum / Math.Log(2) / split.ByteCount, done.Result.Model.BitsPerByte);
        Assert.Equal((double)expected.CorrectCount / expected.PredictionCount, done.Result.Model.Accuracy);
        Assert.Equal((0, split.TokenCount - 1), (done.Result.Model.ImpossibleCount, done.Result.Model.TokenCount));
        Assert.True(done.Result.Model.HasBleu && done.Result.TokensPerSecond > 0);
        Assert.Equal(3, done.Result.NgramOrder);
        Assert.NotEqual(done.Result.Model.Loss, done.Result.Ngram.Loss);
    }

    [Fact]
    public async Task ABaselineThatIsTheModelItselfIsLeftOut()
    {
        using var workshop = await Workshop.OpenAsync();
        await WriteAsync(workshop, new NgramOptions { Order = 3 });
        await using var host = await EvaluatorHost.StartAsync(workshop.StorePath);
        var same = await host.EvaluateAsync(Workshop.Spec(Model));
        Assert.Equal((null, 0), (same.Result.Ngram, same.Result.NgramOrder));

        var spec = Workshop.Spec(Model);
        spec.NgramOrder = 2;
        var other = await host.EvaluateAsync(spec);
        Assert.Equal(2, other.Result.NgramOrder);
        Assert.True(other.Result.Ngram.Loss > same.Result.Model.Loss);

        // Counted on other text, it is another model.
        await workshop.Store.DeleteDirectoryAsync(Model);
        await WriteAsync(workshop, new NgramOptions { Order = 3 }, "another text");
        Assert.NotNull((await host.EvaluateAsync(Workshop.Spec(Model))).Result.Ngram);
    }

    [Fact]
    public async Task TokensOfProbabilityZeroMakeTheLossInfiniteAndAreCounted()
    {
        using var workshop = await Workshop.OpenAsync();
        var model = await WriteAsync(workshop, new NgramOptions { Order = 12, Smoothing = NgramSmoothing.MaximumLikelihood });
        await using var host = await EvaluatorHost.StartAsync(workshop.StorePath);
        var done = await host.EvaluateAsync(Workshop.Spec(Model));
        using var dataset = await workshop.OpenDatasetAsync();
        Assert.Equal((State.Succeeded, double.PositiveInfinity, double.PositiveInfinity), (done.State, done.Result.Model.Loss, done.Result.Model.Perplexity));
        Assert.InRange(done.Result.Model.ImpossibleCount, 1, done.Result.Model.TokenCount - 1);
        Assert.Equal(NgramMeasurement.Of(model, dataset.Split("validation")).ImpossibleCount, done.Result.Model.ImpossibleCount);
    }

    private static async Task<NgramModel> WriteAsync(Workshop workshop, NgramOptions options, string? trainedOn = null)
    {
        using var dataset = await workshop.OpenDatasetAsync();
        var model = NgramModel.Train(dataset.Split("train"), dataset.Tokenizer.VocabularySize, dataset.Tokenizer.EndOfTextId, options);
        using var written = new NgramTokenModel(model, trainedOn ?? dataset.Properties.Fingerprint);
        await workshop.WriteModelAsync(Model, written);
        return model;
    }
}
