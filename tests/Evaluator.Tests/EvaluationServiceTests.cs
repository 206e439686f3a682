using Grpc.Core;
using LlmPipeline.Evaluations.V1;
using LlmPipeline.Evaluator.Measuring;
using LlmPipeline.Models;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;
using LlmPipeline.Text;
using LlmPipeline.Text.NGrams;
using TorchSharp;
using State = LlmPipeline.Evaluations.V1.Evaluation.Types.State;

namespace LlmPipeline.Evaluator.Tests;

public sealed class EvaluationServiceTests
{
    private const string Checkpoint = "runs/run-1/checkpoints/00000010";

    [Fact]
    public async Task ACheckpointIsMeasuredBesideTheNgramModel()
    {
        using var workshop = await Workshop.OpenAsync();
        await workshop.WriteModelAsync(Checkpoint);
        await using var host = await EvaluatorHost.StartAsync(workshop.StorePath);
        var created = await host.CreateAsync(Workshop.Spec(Checkpoint));
        Assert.Equal(("validation", 8), (created.Spec.Split, created.Spec.BleuTokens));

        var seen = await host.WatchAsync(created.Name);
        var done = seen[^1].Evaluation;
        Assert.Equal((State.Succeeded, 1.0, null), (done.State, done.Fraction, done.Error));
        Assert.True(seen.Zip(seen.Skip(1)).All(p => p.First.Sequence < p.Second.Sequence && p.First.Evaluation.Fraction <= p.Second.Evaluation.Fraction));
        Assert.True(done.EndTime >= done.CreateTime);
        Assert.Equal((done.Name, "validation", 3), (done.Result.Name, done.Result.Split, done.Result.NgramOrder));
        Assert.True(done.Result.TokensPerSecond > 0);

        using var dataset = await workshop.OpenDatasetAsync();
        using var model = await workshop.CreateNetworkAsync();
        var split = dataset.Split("validation");
        var expected = SplitLoss.OfNetwork(model, split, null, CancellationToken.None);
        expected.Bleu = HeldOutTexts.Take(split, 6, 8).BleuOf(model, dataset.Tokenizer, null, CancellationToken.None);
        Assert.Equal(expected, done.Result.Model);
        Assert.Equal(split.TokenCount - 1, done.Result.Model.TokenCount);

        Assert.Equal(split.TokenCount - 1, done.Result.Ngram.TokenCount);
        Assert.Equal(NgramLoss(dataset, split), done.Result.Ngram.Loss, 1e-9);
        Assert.True(done.Result.Ngram.Loss < done.Result.Model.Loss, "an untrained network cannot beat counting");
        Assert.InRange(done.Result.Ngram.Accuracy, 0.3, 1);
        Assert.True(done.Result.Ngram.HasBleu);
    }

    [Fact]
    public async Task AMaskedModelIsMeasuredByItself()
    {
        using var workshop = await Workshop.OpenAsync();
        await workshop.WriteModelAsync(Checkpoint, masked: true);
        await using var host = await EvaluatorHost.StartAsync(workshop.StorePath);
        var result = (await host.EvaluateAsync(Workshop.Spec(Checkpoint))).Result;
        Assert.Equal(("masked", false, null, 0), (result.Model.Objective, result.Model.HasBleu, result.Ngram, result.NgramOrder));
        Assert.True(result.Model.Loss > 0);
    }

    [Fact]
    public async Task SameSpecIsTheSameEvaluationUntilTheModelChanges()
    {
        using var workshop = await Workshop.OpenAsync();
        await workshop.WriteModelAsync(Checkpoint);
        await using var host = await EvaluatorHost.StartAsync(workshop.StorePath);
        var first = await host.EvaluateAsync(Workshop.Spec(Checkpoint));
        Assert.Equal(first, await host.CreateAsync(Workshop.Spec(Checkpoint)));
        Assert.Equal(first, await host.CreateAsync(first.Spec));
        Assert.Equal(first, (await host.Evaluations.GetEvaluationAsync(new GetEvaluationRequest { Name = first.Name }, deadline: EvaluatorHost.Deadline)).Evaluation);
        Assert.Equal([first], (await host.Evaluations.ListEvaluationsAsync(new ListEvaluationsRequest(), deadline: EvaluatorHost.Deadline)).Evaluations);

        await workshop.Store.DeleteDirectoryAsync(Checkpoint);
        await workshop.WriteModelAsync(Checkpoint, seed: 2);
        var second = await host.EvaluateAsync(Workshop.Spec(Checkpoint));
        Assert.NotEqual(first.Name, second.Name);
        Assert.NotEqual(first.Result.Model.Loss, second.Result.Model.Loss);
        Assert.Equal(first.Result.Ngram, second.Result.Ngram);
    }

    [Fact]
    public async Task AModelIsItsNewestVersion()
    {
        using var workshop = await Workshop.OpenAsync();
        await workshop.WriteModelAsync("models/tiny/versions/2");
        await workshop.WriteModelAsync("models/tiny/versions/10", seed: 2);
        await using var host = await EvaluatorHost.StartAsync(workshop.StorePath);
        var spec = Workshop.Spec("models/tiny");
        (spec.BleuSamples, spec.NgramOrder) = (0, 0);
        var done = await host.EvaluateAsync(spec);
        Assert.Equal("models/tiny/versions/10", done.Spec.Model);
        Assert.False(done.Result.Model.HasBleu);
        Assert.Null(done.Result.Ngram);
    }

    [Fact]
    public async Task PromptsAreShortenedToTheContext()
    {
        using var workshop = await Workshop.OpenAsync();
        await workshop.WriteModelAsync(Checkpoint, context: 10);
        await using var host = await EvaluatorHost.StartAsync(workshop.StorePath);
        var spec = Workshop.Spec(Checkpoint);
        spec.BleuTokens = 0;
        var done = await host.EvaluateAsync(spec);
        Assert.Equal((State.Succeeded, 32), (done.State, done.Spec.BleuTokens));
        Assert.True(done.Result.Model.HasBleu);
    }

    [Fact]
    public async Task AnotherTokenizerIsATokenizerMismatch()
    {
        using var workshop = await Workshop.OpenAsync();
        using var model = await workshop.CreateNetworkAsync();
        await workshop.WriteModelAsync(Checkpoint, model, CharacterTokenizer.Create("xyz".EnumerateRunes()).ToJson());
        await using var host = await EvaluatorHost.StartAsync(workshop.StorePath);
        var done = await host.EvaluateAsync(Workshop.Spec(Checkpoint));
        Assert.Equal((State.Failed, ErrorReasons.TokenizerMismatch), (done.State, done.Error.Reason));
        Assert.Contains(Checkpoint, done.Error.Message, StringComparison.Ordinal);
        Assert.Null(done.Result);
    }

    [Theory]
    [InlineData(Checkpoint, "model.safetensors")]
    [InlineData(Checkpoint, "tokenizer.json")]
    [InlineData(Workshop.Dataset, "validation-00000.bin")]
    public async Task AFlippedByteIsCorruptDataThatNamesTheFileAndOnceMendedItIsMeasured(string directory, string file)
    {
        using var workshop = await Workshop.OpenAsync();
        await workshop.WriteModelAsync(Checkpoint);
        var path = Path.Combine(workshop.StorePath, directory, file);
        var bytes = File.ReadAllBytes(path);
        bytes[bytes.Length / 2] ^= 1;
        File.WriteAllBytes(path, bytes);
        await using var host = await EvaluatorHost.StartAsync(workshop.StorePath);
        var failed = await host.EvaluateAsync(Workshop.Spec(Checkpoint));
        Assert.Equal((State.Failed, ErrorReasons.CorruptData), (failed.State, failed.Error.Reason));
        Assert.Contains($"{directory}/{file}", failed.Error.Message, StringComparison.Ordinal);

        bytes[bytes.Length / 2] ^= 1;
        File.WriteAllBytes(path, bytes);
        var again = await host.EvaluateAsync(Workshop.Spec(Checkpoint));
        Assert.Equal((failed.Name, State.Succeeded), (again.Name, again.State));
    }

    [Fact]
    public async Task AMissingSplitFailsWithTheRemedy()
    {
        using var workshop = await Workshop.OpenAsync();
        await workshop.WriteModelAsync(Checkpoint);
        await using var host = await EvaluatorHost.StartAsync(workshop.StorePath);
        var spec = Workshop.Spec(Checkpoint);
        spec.Split = "test";
        var done = await host.EvaluateAsync(spec);
        Assert.Equal((State.Failed, ErrorReasons.InvalidSpec), (done.State, done.Error.Reason));
        Assert.Contains("test_fraction", done.Error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task BadRequestsAreRefusedAtOnce()
    {
        using var workshop = await Workshop.OpenAsync();
        await workshop.WriteModelAsync(Checkpoint);
        await using var host = await EvaluatorHost.StartAsync(workshop.StorePath);
        await RefusedAsync(StatusCode.NotFound, "runs/run-2/checkpoints", s => s.Model = "runs/run-2/checkpoints/00000010");
        await RefusedAsync(StatusCode.NotFound, "models/none", s => s.Model = "models/none");
        await RefusedAsync(StatusCode.NotFound, "datasets/none", s => s.Dataset = "datasets/none");
        await RefusedAsync(StatusCode.InvalidArgument, "models/../secret", s => s.Model = "models/../secret");
        await RefusedAsync(StatusCode.InvalidArgument, "datasets/ID", s => s.Dataset = "");
        await RefusedAsync(StatusCode.InvalidArgument, "spec.split", s => s.Split = "dev");
        await RefusedAsync(StatusCode.InvalidArgument, "spec.bleu_samples", s => s.BleuSamples = -1);
        await RefusedAsync(StatusCode.InvalidArgument, "spec.bleu_tokens", s => s.BleuTokens = -1);
        await RefusedAsync(StatusCode.InvalidArgument, "spec.ngram_order", s => s.NgramOrder = 99);

        async Task RefusedAsync(StatusCode code, string part, Action<EvaluationRequestSpec> change)
        {
            var spec = Workshop.Spec(Checkpoint);
            change(spec);
            var error = await Assert.ThrowsAsync<RpcException>(() => host.CreateAsync(spec));
            Assert.Equal(code, error.StatusCode);
            Assert.Contains(part, error.Status.Detail, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("STATE_QUEUED")]
    [InlineData("STATE_RUNNING")]
    public async Task AnEvaluationThatAStoppedServiceLeftIsDoneByTheNext(string state)
    {
        using var workshop = await Workshop.OpenAsync();
        await workshop.WriteModelAsync(Checkpoint);
        Evaluation first;
        await using (var host = await EvaluatorHost.StartAsync(workshop.StorePath))
        {
            first = await host.EvaluateAsync(Workshop.Spec(Checkpoint));
        }

        // As if the process had ended before the result.
        var record = $"{first.Name}/evaluation.json";
        var left = first.Clone();
        (left.Result, left.EndTime, left.Fraction) = (null, null, 0.4);
        var json = Google.Protobuf.JsonFormatter.Default.Format(left).Replace("STATE_SUCCEEDED", state, StringComparison.Ordinal);
        await workshop.Store.WriteTextAsync(record, json);

        await using var next = await EvaluatorHost.StartAsync(workshop.StorePath);
        var done = (await next.WatchAsync(first.Name))[^1].Evaluation;
        Assert.Equal(State.Succeeded, done.State);
        Assert.Equal(first.Result.Model, done.Result.Model);
        Assert.Equal(first.Result.Ngram, done.Result.Ngram);
    }

    [Fact]
    public async Task ACancelledEvaluationEndsOrIsNotBegunAndTheNextOneHasItsTurn()
    {
        using var workshop = await Workshop.OpenAsync();
        await workshop.WriteModelAsync(Checkpoint);
        await workshop.MakeDatasetAsync("datasets/long", "the cat sat on a mat and saw the dog run", 60_000);
        using (var network = await workshop.CreateNetworkAsync(context: 2))
        using (var slow = LanguageModel.Create(network.Config with { Layers = 24 }, 1, torch.CPU))
        {
            await workshop.WriteModelAsync("models/slow/versions/1", slow);
        }

        // Forty thousand batches of a deep network: minutes, if nobody ends it.
        var minutes = new EvaluationRequestSpec { Model = "models/slow", Dataset = "datasets/long", Split = "train" };
        string running, waiting;
        await using (var host = await EvaluatorHost.StartAsync(workshop.StorePath))
        {
            running = (await host.CreateAsync(minutes)).Name;
            await host.WatchAsync(running, e => e.Fraction > 0);
            waiting = (await host.CreateAsync(Workshop.Spec(Checkpoint))).Name;
            var cancelled = await host.CancelAsync(waiting);
            Assert.Equal((State.Cancelled, null, null), (cancelled.State, cancelled.Result, cancelled.Error));
            Assert.True(cancelled.EndTime >= cancelled.CreateTime);
            Assert.Equal(State.Cancelled, (await host.CancelAsync(running)).State);

            // Created again, both begin anew, one after another.
            var again = await host.CreateAsync(minutes);
            Assert.Equal((running, State.Queued, 0.0, null), (again.Name, again.State, again.Fraction, again.EndTime));
            Assert.Equal(State.Queued, (await host.CreateAsync(Workshop.Spec(Checkpoint))).State);
            await host.WatchAsync(running, e => e.State == State.Running && e.Fraction > 0);
            Assert.Equal(State.Cancelled, (await host.CancelAsync(running)).State);
            var done = (await host.WatchAsync(waiting))[^1].Evaluation;
            Assert.Equal((State.Succeeded, 1.0), (done.State, done.Fraction));

            Assert.Equal(done, await host.CancelAsync(waiting));
            Assert.Equal(StatusCode.NotFound, (await Assert.ThrowsAsync<RpcException>(() => host.CancelAsync("evaluations/none"))).StatusCode);
        }

        await using var next = await EvaluatorHost.StartAsync(workshop.StorePath);
        Assert.Equal(State.Cancelled, (await next.WatchAsync(running))[^1].Evaluation.State);
    }

    private static double NgramLoss(TokenDataset dataset, TokenSplit split)
    {
        var model = NgramModel.Train(dataset.Split("train"), dataset.Tokenizer.VocabularySize, dataset.Tokenizer.EndOfTextId, new NgramOptions { Order = 3 });
        var ids = new int[split.TokenCount];
        split.Read(0, ids);
        return -Enumerable.Range(1, ids.Length - 1).Sum(i => model.LogProbability(ids.AsSpan(0, i), ids[i])) / (ids.Length - 1);
    }
}
