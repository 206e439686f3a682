using LlmPipeline.Evaluations.V1;
using LlmPipeline.Evaluator.Measuring;
using LlmPipeline.Models;
using LlmPipeline.Text;
using TorchSharp;
using State = LlmPipeline.Evaluations.V1.Evaluation.Types.State;

namespace LlmPipeline.Evaluator.Tests;

public sealed class ClassificationTests
{
    private const string Labelled = "datasets/labelled";
    private const string Model = "models/some/versions/1";

    [Fact]
    public void TheReportIsThatOfTheConfusionMatrix()
    {
        // 3 classes; rows are what documents are: (2 1 0) (1 3 0) (2 0 0).
        var classification = new Classification(["a", "b", "c"]);
        foreach (var (label, taken) in new[] { (0, 0), (0, 0), (0, 1), (1, 0), (1, 1), (1, 1), (1, 1), (2, 0), (2, 0) })
        {
            double[] scores = [Math.Log(0.25), Math.Log(0.25), Math.Log(0.25)];
            scores[taken] = Math.Log(0.5);
            classification.Add(label, scores);
        }

        var report = classification.Report(majority: 1);
        Assert.Equal((5 / 9.0, 4 / 9.0, "b"), (report.Accuracy, report.MajorityAccuracy, report.MajorityLabel));
        Assert.Equal([(3L, 2 / 5.0, 2 / 3.0), (4, 3 / 4.0, 3 / 4.0), (2, 0, 0)], report.Classes.Select(c => (c.DocumentCount, c.Precision, c.Recall)));
        Assert.Equal([0.5, 0.75, 0], report.Classes.Select(c => Math.Round(c.F1, 12)));
        Assert.Equal(1.25 / 3, report.MacroF1, 1e-12);
        Assert.Equal([2L, 1, 0], report.Classes[0].PredictedCounts);
        var quality = classification.Quality();
        Assert.Equal(9, quality.TokenCount);
        Assert.Equal(((5 * Math.Log(2)) + (4 * Math.Log(4))) / 9, quality.Loss, 1e-12);
    }

    [Fact]
    public async Task AClassifierIsMeasuredOnADatasetWithItsLabels()
    {
        using var workshop = await Workshop.OpenAsync();
        await workshop.MakeLabelledAsync(Labelled);
        using (var language = await workshop.CreateNetworkAsync())
        using (var model = LanguageModel.Create(language.Config with { Labels = ["cats", "dogs"] }, 3, torch.CPU))
        {
            await workshop.WriteModelAsync(Model, model);
        }

        await workshop.WriteModelAsync("models/language/versions/1");
        await using var host = await EvaluatorHost.StartAsync(workshop.StorePath);
        var done = await host.EvaluateAsync(new EvaluationRequestSpec { Model = Model, Dataset = Labelled, BleuSamples = 5, NgramOrder = 3 });
        Assert.Equal((State.Succeeded, null), (done.State, done.Error));
        var report = done.Result.Classification;
        Assert.Equal(["cats", "dogs"], report.Classes.Select(c => c.Label));
        Assert.Equal(done.Result.Model.TokenCount, report.Classes.Sum(c => c.DocumentCount));
        Assert.Equal(report.Accuracy, done.Result.Model.Accuracy);
        Assert.Equal("dogs", report.MajorityLabel);
        Assert.Null(done.Result.Ngram);

        var refused = await host.EvaluateAsync(new EvaluationRequestSpec { Model = Model, Dataset = Workshop.Dataset });
        Assert.Contains("have no labels", refused.Error.Message, StringComparison.Ordinal);
        refused = await host.EvaluateAsync(new EvaluationRequestSpec { Model = "models/language/versions/1", Dataset = Labelled });
        Assert.Contains("few_shot", refused.Error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task APromptIsScoredByTheSumOfItsLabelsLogProbabilities()
    {
        using var workshop = await Workshop.OpenAsync();
        await workshop.MakeLabelledAsync(Labelled);
        await workshop.WriteModelAsync(Model);
        using var model = await workshop.CreateNetworkAsync();

        // By the chain rule, from the logits themselves; of a prompt that is too long the newest ids count.
        int[] prompt = [.. Enumerable.Range(0, 30).Select(i => 1 + (i * 7 % 11))], continuation = [3, 5, 4];
        int[] ids = [.. prompt.AsSpan(30 - 22), .. continuation];
        var logits = new float[model.VocabularySize];
        var expected = 0.0;
        using (var state = model.BeginGeneration(1))
        {
            state.Append(ids.AsSpan(0, 22), logits);
            foreach (var id in continuation)
            {
                expected += logits[id] - Math.Log(logits.Sum(l => Math.Exp(l)));
                if (state.Length < 24)
                {
                    state.Append([id], logits);
                }
            }
        }

        Assert.Equal(expected, FewShot.Score(model, prompt, continuation), 1e-4);

        await using var host = await EvaluatorHost.StartAsync(workshop.StorePath);
        var spec = new EvaluationRequestSpec { Model = Model, Dataset = Labelled, FewShot = new FewShotSpec { Shots = 1, Documents = 20, Template = "{text} {label}.", Labels = { "cat", "dog" } } };
        var done = await host.EvaluateAsync(spec);
        Assert.Equal((State.Succeeded, null), (done.State, done.Error));
        Assert.Equal(20, done.Result.Classification.Classes.Sum(c => c.DocumentCount));
        spec.FewShot.Template = "{label} {text}";
        Assert.Contains("few_shot.template", (await Assert.ThrowsAsync<Grpc.Core.RpcException>(() => host.CreateAsync(spec))).Status.Detail, StringComparison.Ordinal);
    }

    [Fact]
    public async Task AModelWithFurtherIdsReadsADatasetOfItsBasesTokenizer()
    {
        using var workshop = await Workshop.OpenAsync();
        await workshop.MakeLabelledAsync(Labelled);
        using var dataset = await TokenDataset.OpenAsync(workshop.Store, Labelled);
        var tokenizer = dataset.Tokenizer.Extend(["dog"]);
        using var known = await workshop.CreateNetworkAsync();
        using var model = LanguageModel.Create(known.Config with { VocabularySize = tokenizer.VocabularySize }, 3, torch.CPU);
        await workshop.WriteModelAsync(Model, model, tokenizer.ToJson());
        using (var classifier = LanguageModel.Create(model.Config with { Labels = ["cats", "dogs"] }, 3, torch.CPU))
        {
            await workshop.WriteModelAsync("models/classifier/versions/1", classifier, tokenizer.ToJson());
        }

        await using var host = await EvaluatorHost.StartAsync(workshop.StorePath);
        var done = await host.EvaluateAsync(new EvaluationRequestSpec
        {
            Model = Model,
            Dataset = Labelled,
            FewShot = new FewShotSpec { Documents = 20, Template = "{text} {label}.", Labels = { "cat", "dog" } },
        });
        Assert.Equal((State.Succeeded, null), (done.State, done.Error));

        // Its own tokenizer makes one id of a word in prompts and labels.
        int[] cat = tokenizer.Encode(" cat"), dog = tokenizer.Encode(" dog");
        Assert.Equal((4, 2), (cat.Length, dog.Length));
        var split = dataset.Split("validation");
        var loss = 0.0;
        for (var i = 0; i < 20; i++)
        {
            var (ids, label) = Classification.Document(dataset, split, i * split.DocumentCount / 20);
            var prompt = tokenizer.Encode(dataset.Tokenizer.Decode(ids));
            double[] scores = [FewShot.Score(model, prompt, cat), FewShot.Score(model, prompt, dog)];
            loss += Math.Log(scores.Sum(s => Math.Exp(s))) - scores[label];
        }

        Assert.Equal(loss / 20, done.Result.Model.Loss, 1e-4);

        done = await host.EvaluateAsync(new EvaluationRequestSpec { Model = "models/classifier", Dataset = Labelled });
        Assert.Equal((State.Succeeded, null), (done.State, done.Error));
    }

    [Fact]
    public async Task WhatWasForgottenIsMeasuredOnOldAndNewText()
    {
        using var workshop = await Workshop.OpenAsync();
        await workshop.WriteModelAsync("models/base/versions/1", seed: 1);
        await workshop.WriteModelAsync("models/tuned/versions/1", seed: 2);
        await workshop.MakeDatasetAsync("datasets/newer", "run dog the saw and mat a on sat cat", 300);
        await using var host = await EvaluatorHost.StartAsync(workshop.StorePath);
        using var newer = await TokenDataset.OpenAsync(workshop.Store, "datasets/newer");
        using var older = await workshop.OpenDatasetAsync();
        if (newer.Tokenizer.Hash != older.Tokenizer.Hash)
        {
            Assert.Fail("The two datasets were to have the same characters.");
        }

        var done = await host.EvaluateAsync(new EvaluationRequestSpec { Model = "models/tuned/versions/1", Dataset = "datasets/newer", Base = "models/base", OldDataset = Workshop.Dataset });
        Assert.Equal((State.Succeeded, null), (done.State, done.Error));
        using var origin = await workshop.CreateNetworkAsync(seed: 1);
        using var tuned = await workshop.CreateNetworkAsync(seed: 2);
        var table = done.Result.Forgetting;
        Assert.Equal(SplitLoss.OfNetwork(origin, older.Split("validation"), null, CancellationToken.None), table.BaseOld);
        Assert.Equal(SplitLoss.OfNetwork(origin, newer.Split("validation"), null, CancellationToken.None), table.BaseNew);
        Assert.Equal(SplitLoss.OfNetwork(tuned, older.Split("validation"), null, CancellationToken.None), table.ModelOld);
        Assert.Equal(SplitLoss.OfNetwork(tuned, newer.Split("validation"), null, CancellationToken.None), table.ModelNew);
        Assert.Equal("models/base/versions/1", done.Spec.Base);
    }
}
