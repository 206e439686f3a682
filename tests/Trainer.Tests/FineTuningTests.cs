using Grpc.Core;
using LlmPipeline.Datasets.V1;
using LlmPipeline.Models;
using LlmPipeline.Runs.V1;
using LlmPipeline.Storage;
using LlmPipeline.Text;
using LlmPipeline.Text.Shards;
using LlmPipeline.Trainer.Coordinator;
using LlmPipeline.Trainer.Optimizers;
using LlmPipeline.Trainer.Worker;
using TorchSharp;

namespace LlmPipeline.Trainer.Tests;

public sealed class FineTuningTests : IAsyncLifetime
{
    private const string Base = "models/base/versions/3";

    private readonly string _folder = Directory.CreateTempSubdirectory("fine-tuning-").FullName;
    private readonly IBlobStore _store;
    private readonly ITokenizer _tokenizer = CharacterTokenizer.Create("abcdefghijklmnopqrstuvwxyz ,".EnumerateRunes());

    public FineTuningTests() => _store = BlobStore.Open($"folder={_folder}");

    public async ValueTask InitializeAsync()
    {
        using var replica = TinyRun.NewReplica(TinyRun.Spec());
        Assert.Equal(TinyRun.Vocabulary, replica.Model.VocabularySize);
        var directory = _store.CreateDirectory(Base);
        await ModelDirectory.WriteAsync(directory, replica.Model, _tokenizer.ToJson());
        await directory.CommitAsync();
    }

    public ValueTask DisposeAsync()
    {
        Directory.Delete(_folder, recursive: true);
        return ValueTask.CompletedTask;
    }

    [Theory]
    [InlineData("full")]
    [InlineData("frozen")]
    [InlineData("lora")]
    public async Task AnyNumberOfWorkersTunesToTheSameBits(string method)
    {
        var spec = TuningSpec(method);
        using var one = new LoopHarness(spec, 1, replicas: [await ReplicaAsync(spec)]);
        var before = one.Replicas[0].Model.Parameters.FrozenValues.ToArray();
        Assert.Equal(method == "full", before.Length == 0);
        // All but the last block are frozen there; elsewhere ranges go out before the backward pass is over.
        Assert.Equal(method == "frozen", one.Replicas[0].Model.GradientRanges(LoopHarness.SmallestRange).Count == 1);
        Assert.Equal([LoopOutcome.Finished], await one.RunAsync());
        Assert.True(one.Sink.Curve[^1].Loss < one.Sink.Curve[0].Loss);
        Assert.Equal(before, one.Replicas[0].Model.Parameters.FrozenValues.ToArray());
        foreach (var size in new[] { 2, 3 })
        {
            using var many = new LoopHarness(spec, size, replicas: [.. await Task.WhenAll(Enumerable.Range(0, size).Select(_ => ReplicaAsync(spec)))]);
            Assert.All(await many.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
            Assert.Equal(one.Sink.Curve, many.Sink.Curve);
            Assert.All(many.Replicas, replica => Assert.True(TrainingLoopTests.SameState(one.Replicas[0], replica)));
        }
    }

    [Fact]
    public async Task WhatAHeadReadsIsTheSpecsToSayWhereDocumentsHaveLabels()
    {
        var spec = TuningSpec("full");
        spec.Model.Pooling = "concat";
        var labelled = TinyRun.Dataset() with { Labels = TinyRun.Labels };
        using (var model = await FineTuning.CreateAsync(_store, spec, labelled, "", torch.CPU, CancellationToken.None))
        {
            Assert.Equal(Pooling.Concat, model.Config.Pooling);
        }

        spec.FineTune = null;
        using (var fresh = await FineTuning.CreateAsync(_store, spec, labelled, "", torch.CPU, CancellationToken.None))
        {
            Assert.Equal(Pooling.Concat, fresh.Config.Pooling);
        }

        var wrong = await Assert.ThrowsAsync<FatalTrainingException>(() => FineTuning.CreateAsync(_store, spec, TinyRun.Dataset(), "", torch.CPU, CancellationToken.None));
        Assert.Contains("model.pooling is concat, but the documents of 'datasets/tiny' have no labels", wrong.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ALowRankRunResumesBitForBitFromItsCheckpoint()
    {
        var spec = TuningSpec("lora");
        using var whole = new LoopHarness(spec, 1, replicas: [await ReplicaAsync(spec)]) { Checkpoints = new CheckpointStore(_store, "{}") };
        await whole.RunAsync();

        const string checkpoint = "runs/tiny/checkpoints/00000008";
        var model = await FineTuning.CreateAsync(_store, spec, TinyRun.Dataset(), checkpoint, torch.CPU, CancellationToken.None);
        var replica = new Replica(1, model, Optimizer.Create(spec.Optimizer), new TrainerState { Run = "runs/tiny", SpecHash = "" });
        replica.State = await CheckpointStore.LoadAsync(_store, checkpoint, replica, CancellationToken.None);
        Assert.Equal(8, replica.State.Step);
        using var resumed = new LoopHarness(spec, 1, replicas: [replica]);
        await resumed.RunAsync();
        Assert.Equal(whole.Sink.Curve[8..], resumed.Sink.Curve.Where(c => c.Step > 8));
        Assert.True(TrainingLoopTests.SameState(whole.Replicas[0], replica));
        Assert.True(whole.Replicas[0].Model.Parameters.FrozenValues.SequenceEqual(model.Parameters.FrozenValues));
    }

    [Theory]
    [InlineData("lora", true)]
    [InlineData("lora", false)]
    [InlineData("frozen", true)]
    public async Task IdsThatTheBaseDoesNotKnowAreTrained(string method, bool byTokenizer)
    {
        var spec = TuningSpec(method);
        spec.FineTune.FrozenEmbedding = false;
        if (!byTokenizer)
        {
            spec.FineTune.NewTokens.Add("abba");
        }

        var dataset = TinyRun.Dataset() with { VocabularySize = _tokenizer.VocabularySize + 1 };
        using var model = await FineTuning.CreateAsync(_store, spec, dataset, "", torch.CPU, CancellationToken.None);
        Assert.Equal(_tokenizer.VocabularySize + 1, model.VocabularySize);
        Assert.Contains(model.Parameters.Views, v => v.Shape[0] == model.VocabularySize);
        Assert.DoesNotContain(model.Parameters.FrozenViews, v => v.Shape[0] == model.VocabularySize);

        // A checkpoint says itself what was trained: the base's tokenizer is not asked again.
        if (method == "lora")
        {
            const string checkpoint = "runs/tiny/checkpoints/00000001";
            var directory = _store.CreateDirectory(checkpoint);
            await ModelDirectory.WriteAsync(directory, model, _tokenizer.ToJson());
            await directory.CommitAsync();
            using var resumed = await FineTuning.CreateAsync(_store, spec, dataset, checkpoint, torch.CPU, CancellationToken.None);
            Assert.Equal(model.Parameters.Views.Select(v => v.Name), resumed.Parameters.Views.Select(v => v.Name));
        }
    }

    [Fact]
    public async Task FurtherIdsAreNotLeftUntrained()
    {
        var extended = _tokenizer.Extend(["abba"]);
        var spec = new RunSpec
        {
            Dataset = new DatasetSpec { Sources = { "a.txt" }, Tokenizer = new TokenizerSpec { Name = await StoredTokenizers.WriteAsync(_store, extended, CancellationToken.None) } },
            FineTune = new FineTuneSpec { Base = Base, Method = "frozen" },
        };
        var refused = await Assert.ThrowsAsync<RpcException>(() => ResolveAsync(spec));
        Assert.StartsWith("dataset.tokenizer.name", refused.Status.Detail);
        Assert.Contains("set fine_tune.frozen_embedding to false", refused.Status.Detail);

        spec.FineTune.FrozenEmbedding = false;
        var resolved = await ResolveAsync(spec);
        var dataset = new Dataset { Name = "datasets/new", Tokenizer = spec.Dataset.Tokenizer.Name };
        await FineTuneResolver.CheckTokenizersAsync(resolved.FineTune, dataset, null, _store, CancellationToken.None);
        resolved.FineTune.FrozenEmbedding = true;
        var failed = await Assert.ThrowsAsync<StageFailedException>(() => FineTuneResolver.CheckTokenizersAsync(resolved.FineTune, dataset, null, _store, CancellationToken.None));
        Assert.Contains("fine_tune.frozen_embedding set to false", failed.Message);
    }

    [Fact]
    public async Task AnOldDatasetOfAnotherTokenizerAndABaseThatIsGoneAreNamed()
    {
        var (own, other) = (await StoredTokenizers.WriteAsync(_store, _tokenizer, CancellationToken.None),
            await StoredTokenizers.WriteAsync(_store, CharacterTokenizer.Create("xyz".EnumerateRunes()), CancellationToken.None));
        var tune = new FineTuneSpec { Base = Base, Method = "full" };
        var dataset = new Dataset { Name = "datasets/new", Tokenizer = own };
        await FineTuneResolver.CheckTokenizersAsync(tune, dataset, new Dataset { Name = "datasets/old-text", Tokenizer = own }, _store, CancellationToken.None);
        var wrong = await Assert.ThrowsAsync<StageFailedException>(() =>
            FineTuneResolver.CheckTokenizersAsync(tune, dataset, new Dataset { Name = "datasets/old-text", Tokenizer = other }, _store, CancellationToken.None));
        Assert.Contains($"fine_tune.old_dataset 'datasets/old-text' was encoded with '{other}'", wrong.Message);

        tune.Base = "runs/gone/checkpoints/00000500";
        var gone = await Assert.ThrowsAsync<StageFailedException>(() => FineTuneResolver.CheckTokenizersAsync(tune, dataset, null, _store, CancellationToken.None));
        Assert.Equal("NOT_FOUND", gone.Error.Reason);
        Assert.Contains("fine_tune.base 'runs/gone/checkpoints/00000500' cannot be read any more", gone.Message);
    }

    [Fact]
    public async Task ARunIsABaseWhenItHasEnded()
    {
        var run = new Run { Name = "runs/some", State = Run.Types.State.Training, LatestCheckpoint = "runs/some/checkpoints/00000500", Spec = TinyRun.Spec() };
        var spec = new RunSpec { Dataset = new DatasetSpec { Sources = { "a.txt" } }, FineTune = new FineTuneSpec { Base = "runs/some" } };
        var refused = await Assert.ThrowsAsync<RpcException>(() => FineTuneResolver.ResolveAsync(spec, _store, _ => run, CancellationToken.None));
        Assert.Contains("runs/some, which is TRAINING; wait for its end", refused.Status.Detail);
    }

    [Fact]
    public async Task ForgettingIsNotMeasuredOfAClassifier()
    {
        var spec = new RunSpec { Dataset = new DatasetSpec { Sources = { "a.jsonl" }, LabelField = "label" }, FineTune = new FineTuneSpec { Base = Base, OldDataset = "datasets/old-text" } };
        var refused = await Assert.ThrowsAsync<RpcException>(() => ResolveAsync(spec));
        Assert.StartsWith("fine_tune.old_dataset is set, and the dataset has labels", refused.Status.Detail);
    }

    [Fact]
    public async Task TheBaseSaysSizesAndTokenizer()
    {
        var resolved = await ResolveAsync(new RunSpec { Dataset = new DatasetSpec { Sources = { "a.txt" } }, FineTune = new FineTuneSpec { Base = "models/base" } });
        Assert.Equal(Base, resolved.FineTune.Base);
        Assert.Equal("full", resolved.FineTune.Method);
        Assert.Equal((2, 2, 16, 8), (resolved.Model.Layers, resolved.Model.Heads, resolved.Model.Width, resolved.Model.Context));
        Assert.Equal(_tokenizer.Hash, (await StoredTokenizers.ReadAsync(_store, resolved.Dataset.Tokenizer.Name, TestContext.Current.CancellationToken)).Hash);
        Assert.Equal(resolved, await ResolveAsync(resolved));

        var lora = await ResolveAsync(new RunSpec
        {
            Dataset = new DatasetSpec { Sources = { "a.txt" } },
            Model = new ModelSpec { Dropout = 0.3 },
            FineTune = new FineTuneSpec { Base = Base, Method = "lora", NewTokens = { "abba" } },
        });
        Assert.Equal((8, 16.0, 0.3), (lora.FineTune.Lora.Rank, lora.FineTune.Lora.Alpha, lora.Model.Dropout));
        Assert.Equal(["c_attn", "c_proj", "c_fc"], lora.FineTune.Lora.Targets);
        var extended = await StoredTokenizers.ReadAsync(_store, lora.Dataset.Tokenizer.Name, TestContext.Current.CancellationToken);
        Assert.Equal(_tokenizer.VocabularySize + 1, extended.VocabularySize);
        Assert.True(extended.Extends(_tokenizer));
        Assert.False(_tokenizer.Extends(extended));
        Assert.Equal([.. _tokenizer.Encode("is "), _tokenizer.VocabularySize, .. _tokenizer.Encode(", a")], extended.Encode("is abba, a"));
        Assert.Equal(lora, await ResolveAsync(lora));
    }

    [Theory]
    [InlineData("model.layers", "has 2;")]
    [InlineData("model.preset", "Leave it out")]
    [InlineData("fine_tune.base", "models/MODEL")]
    [InlineData("fine_tune.frozen_blocks", "method is full")]
    [InlineData("fine_tune.lora", "method is full")]
    [InlineData("fine_tune.lora.targets", "c_attn, c_proj, c_fc")]
    [InlineData("fine_tune.new_tokens", "is one id of the tokenizer already")]
    [InlineData("dataset.tokenizer", "Leave it out")]
    [InlineData("size", "Leave it out")]
    public async Task WhatContradictsTheBaseIsRefusedWithWords(string key, string words)
    {
        var spec = new RunSpec { Dataset = new DatasetSpec { Sources = { "a.txt" } }, FineTune = new FineTuneSpec { Base = Base } };
        Action change = key switch
        {
            "model.layers" => () => spec.Model = new ModelSpec { Layers = 5 },
            "model.preset" => () => spec.Model = new ModelSpec { Preset = "gpt-nano" },
            "fine_tune.base" => () => spec.FineTune.ClearBase(),
            "fine_tune.frozen_blocks" => () => spec.FineTune.FrozenBlocks = 1,
            "fine_tune.lora" => () => spec.FineTune.Lora = new LoraSpec(),
            "fine_tune.lora.targets" => () => (spec.FineTune.Method, spec.FineTune.Lora) = ("lora", new LoraSpec { Targets = { "q_proj" } }),
            "fine_tune.new_tokens" => () => spec.FineTune.NewTokens.Add("a"),
            "dataset.tokenizer" => () => spec.Dataset.Tokenizer = new TokenizerSpec { Kind = "bpe" },
            _ => () => spec.Size = 3,
        };
        change();
        var error = await Assert.ThrowsAsync<RpcException>(() => ResolveAsync(spec));
        Assert.Equal(StatusCode.InvalidArgument, error.StatusCode);
        Assert.StartsWith(key, error.Status.Detail);
        Assert.Contains(words, error.Status.Detail);
    }

    private static RunSpec TuningSpec(string method) => TinyRun.Spec(s => s.FineTune = new FineTuneSpec
    {
        Base = Base,
        Method = method,
        FrozenBlocks = method == "frozen" ? 1 : 0,
        FrozenEmbedding = method == "frozen",
        Lora = method == "lora" ? new LoraSpec { Rank = 2, Alpha = 4, Dropout = 0.1, Targets = { "c_attn", "c_fc" }, Merge = true } : null,
    });

    private async Task<Replica> ReplicaAsync(RunSpec spec)
    {
        TorchRuntime.Initialize();
        var model = await FineTuning.CreateAsync(_store, spec, TinyRun.Dataset(), "", torch.CPU, CancellationToken.None);
        return new Replica(1, model, Optimizer.Create(spec.Optimizer), new TrainerState { Run = "runs/tiny", SpecHash = "" });
    }

    private async Task<RunSpec> ResolveAsync(RunSpec spec) =>
        RunSpecResolver.Resolve(await FineTuneResolver.ResolveAsync(spec, _store, _ => null, CancellationToken.None), "test");
}
