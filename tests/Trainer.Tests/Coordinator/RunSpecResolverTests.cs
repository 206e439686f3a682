using Google.Protobuf;
using Google.Protobuf.Reflection;
using Grpc.Core;
using LlmPipeline.Datasets.V1;
using LlmPipeline.Models;
using LlmPipeline.Runs.V1;
using LlmPipeline.Trainer.Coordinator;
using LlmPipeline.Trainer.Worker;

namespace LlmPipeline.Trainer.Tests.Coordinator;

public sealed class RunSpecResolverTests
{
    [Theory]
    [InlineData("gpt-nano", 3, 128, 4, 64)]
    [InlineData("gpt-tiny", 4, 192, 6, 128)]
    [InlineData("gpt-small", 6, 384, 6, 256)]
    [InlineData("gpt2", 12, 768, 12, 1024)]
    [InlineData("llama-tiny", 4, 192, 6, 128)]
    [InlineData("llama-small", 6, 384, 6, 256)]
    [InlineData("rnn-small", 2, 128, 0, 64)]
    [InlineData("lstm-small", 2, 128, 0, 64)]
    [InlineData("gru-small", 2, 128, 0, 64)]
    [InlineData("lstm-medium", 2, 650, 0, 35)]
    [InlineData("feed-forward-small", 1, 256, 0, 64)]
    public void PresetsAreThoseOfTheProto(string preset, int layers, int width, int heads, int context)
    {
        var model = Resolve(s => s.Model = new ModelSpec { Preset = preset }).Model;
        Assert.Equal((preset.StartsWith("gpt", StringComparison.Ordinal) ? "gpt2" : preset[..preset.LastIndexOf('-')], layers, width, heads, context), (model.Architecture, model.Layers, model.Width, model.Heads, model.Context));
        var comment = File.ReadAllText(Path.Combine(RunStatesTests.RepositoryRoot(), "protos/llmpipeline/runs/v1/run_spec.proto"));
        Assert.Contains($"\"{preset}\" (", comment);
    }

    [Fact]
    public void DefaultsAreThoseOfTheProto()
    {
        var spec = Resolve();
        Assert.Equal(new ModelSpec { Preset = "gpt-tiny", Architecture = "gpt2", Layers = 4, Heads = 6, Width = 192, Context = 128, Dropout = 0, Bias = true, Tied = true, Objective = "causal", Pooling = "last" }, spec.Model);
        Assert.Equal(new OptimizerSpec { Kind = "adamw", LearningRate = 1e-3, MinLearningRate = 1e-4, WarmupSteps = 100, Beta1 = 0.9, Beta2 = 0.99, Epsilon = 1e-8, WeightDecay = 0.1, ClipNorm = 1, L2 = 0, ClipValue = 0, Schedule = "cosine" }, spec.Optimizer);
        Assert.Equal(new TrainingSpec { Steps = 1000, BatchSize = 32, MicroBatchSize = 8, ValidationInterval = 250, ValidationSequences = 200, CheckpointInterval = 250, KeepCheckpoints = 2, MaxSeconds = 0, MinWorkers = 1, StartWorkers = 1, MaxWorkers = 4, Rebalance = true, Exchange = new ExchangeSpec { Wire = "fp32" }, Precision = "fp32", OnAnomaly = "skip", MaxAnomalies = 5, AnomalyWindow = 500, SpikeDeviation = 10, MaxNormFactor = 1000, SampleTokens = 64, LabelSmoothing = 0, Patience = 0, MinImprovement = 0 }, spec.Training);
        Assert.Equal(new EvaluationSpec { Split = "validation", BleuSamples = 64, BleuTokens = 32, NgramOrder = 3, Checkpoint = "best" }, spec.Evaluation);
        Assert.Equal(new PublishSpec { ModelId = "some-run", MaxLoss = 0 }, spec.Publish);
        Assert.Equal(1, spec.Seed);
    }

    [Fact]
    public void DerivedDefaultsFollowWhatIsSet()
    {
        var spec = Resolve(s =>
        {
            s.Training = new TrainingSpec { Steps = 50, BatchSize = 6 };
            s.Optimizer = new OptimizerSpec { LearningRate = 3e-3 };
        });
        Assert.Equal(5, spec.Optimizer.WarmupSteps);
        Assert.Equal(3e-4, spec.Optimizer.MinLearningRate, 1e-12);
        Assert.Equal(1, spec.Training.MicroBatchSize);
    }

    [Fact]
    public void AResolvedSpecHasEveryFieldAndResolvesToItself()
    {
        foreach (var preset in ModelPresets.All.Keys)
        {
            var spec = Resolve(s => s.Model = new ModelSpec { Preset = preset, Dropout = 0.25 });
            Assert.Equal(0.25, spec.Model.Dropout);
            string[] transformer = ["heads"], llama = ["kv_heads", "feed_forward_width", "rope_theta"], embedding = ["embedding_width"],
                recurrent = ["variational_dropout", "recurrent_dropout"], feedForward = ["window", "direct_connections"];
            string[] others = spec.Model.Architecture switch
            {
                "gpt2" => [.. llama, .. embedding, .. recurrent, .. feedForward],
                "llama" => [.. embedding, .. recurrent, .. feedForward],
                "feed-forward" => [.. transformer, .. llama, .. recurrent],
                _ => [.. transformer, .. llama, .. feedForward],
            };
            Assert.Empty(Unset(spec).Except(["dataset_name", "ngram", "size", "fine_tune", "sample_prompts", "mode", "local", .. others, .. OtherOptimizersKeys]));
            Assert.Equal(spec, RunSpecResolver.Resolve(spec, "another-run"));
            Assert.Equal(spec.ToByteArray(), RunSpecResolver.Resolve(RunSpec.Parser.ParseJson(JsonFormatter.Default.Format(spec)), "another-run").ToByteArray());
        }
    }

    [Theory]
    [InlineData("gpt2", 2, 2, 128, 2, 128, 32, 1920, 2e-3)]
    [InlineData("gpt2", 6, 6, 384, 6, 512, 32, 12960, 1e-3)]
    [InlineData("gpt2", 12, 12, 768, 12, 1024, 32, 51840, 5.9e-4)]
    [InlineData("llama", 6, 6, 384, 6, 512, 32, 12960, 1e-3)]
    public void SizeGivesTheRest(string architecture, int size, int layers, int width, int heads, int context, int batch, long steps, double rate)
    {
        var spec = Resolve(s => (s.Size, s.Model) = (size, new ModelSpec { Architecture = architecture }));
        Assert.Equal((layers, width, heads, context), (spec.Model.Layers, spec.Model.Width, spec.Model.Heads, spec.Model.Context));
        Assert.Equal((batch, steps, rate), (spec.Training.BatchSize, spec.Training.Steps, spec.Optimizer.LearningRate));
        Assert.Equal(spec, RunSpecResolver.Resolve(spec, "another-run"));
    }

    [Fact]
    public void ALlamaHasDefaultsOfItsOwn()
    {
        var tiny = new ModelSpec
        {
            Preset = "llama-tiny",
            Architecture = "llama",
            Layers = 4,
            Heads = 6,
            KvHeads = 2,
            Width = 192,
            FeedForwardWidth = 512,
            Context = 128,
            Dropout = 0,
            Bias = false,
            Tied = true,
            RopeTheta = 10_000,
            Objective = "causal",
            Pooling = "last",
        };
        Assert.Equal(tiny, Resolve(s => s.Model = new ModelSpec { Architecture = "llama" }).Model);
        Assert.Equal(tiny, Resolve(s => s.Model = new ModelSpec { Preset = "llama-tiny" }).Model);
        var changed = Resolve(s => s.Model = new ModelSpec { Preset = "llama-tiny", Width = 100, Heads = 2, KvHeads = 1, Tied = false, RopeTheta = 5e5 }).Model;
        Assert.Equal((288, 1, false, 5e5), (changed.FeedForwardWidth, changed.KvHeads, changed.Tied, changed.RopeTheta));
        var config = TrainingSettings.ModelOf(new RunSpec { Model = changed }, 50, 0);
        Assert.Equal(("llama", 2, 1, 100, 288, false, false, 5e5), (config.Architecture, config.Heads, config.KvHeads, config.Width, config.FeedForwardWidth, config.Tied, config.Bias, config.RopeTheta));
        config.Validate();
    }

    [Fact]
    public void AMaskedModelHasAMaskTokenAndIsMeasuredWithoutContinuations()
    {
        var spec = Resolve(s => s.Model = new ModelSpec { Objective = "masked" });
        Assert.Equal(["<|mask|>"], spec.Dataset.Tokenizer.SpecialTokens);
        Assert.Equal((0, 0), (spec.Evaluation.BleuSamples, spec.Evaluation.NgramOrder));
        Assert.Equal(spec, RunSpecResolver.Resolve(spec, "another-run"));
        Assert.Empty(Resolve(s => (s.Model, s.Dataset.Tokenizer) = (new ModelSpec { Objective = "masked" }, new TokenizerSpec { Name = "tokenizers/some" })).Dataset.Tokenizer.SpecialTokens);
        Assert.Equal(["<|pad|>", "<|mask|>"], Resolve(s => (s.Model, s.Dataset.Tokenizer) = (new ModelSpec { Objective = "masked" }, new TokenizerSpec { SpecialTokens = { "<|pad|>" } })).Dataset.Tokenizer.SpecialTokens);
        Assert.Null(Resolve().Dataset.Tokenizer);

        var config = Worker.TrainingSettings.ModelOf(spec, 50, 0, 7);
        Assert.Equal((LlmPipeline.Models.Objective.Masked, 7), (config.Objective, config.MaskTokenId));
        Assert.Contains("no special token <|mask|>", Assert.Throws<Worker.FatalTrainingException>(() => Worker.TrainingSettings.ModelOf(spec, 50, 0)).Message);
    }

    [Fact]
    public void WhatIsSetHoldsBesideSize()
    {
        var spec = Resolve(s =>
        {
            s.Size = 4;
            s.Model = new ModelSpec { Width = 128, Dropout = 0.1 };
            s.Training = new TrainingSpec { Steps = 7 };
        });
        Assert.Equal((4, 128, 0.1, 7), (spec.Model.Layers, spec.Model.Width, spec.Model.Dropout, spec.Training.Steps));
        Assert.Equal(2e-3, spec.Optimizer.LearningRate); // of width 128, not of size 4
    }

    /// <summary>What AdamW with a cosine does not have.</summary>
    private static readonly string[] OtherOptimizersKeys = ["momentum", "nesterov", "dampening", "alpha", "centered", "step_size", "gamma", "decay_share"];

    [Fact]
    public void RecurrentAndFeedForwardNetworksReachTheTrainer()
    {
        var lstm = Resolve(s => s.Model = new ModelSpec { Architecture = "lstm", EmbeddingWidth = 96, Tied = true, VariationalDropout = true, RecurrentDropout = 0.5 });
        Assert.Equal("lstm-small", lstm.Model.Preset);
        var config = TrainingSettings.ModelOf(lstm, 29, 3);
        Assert.Equal(
            new ModelConfig { Architecture = "lstm", VocabularySize = 29, Layers = 2, Width = 128, EmbeddingWidth = 96, Context = 64, Tied = true, VariationalDropout = true, RecurrentDropout = 0.5, EndOfTextId = 3 },
            config);
        config.Validate();

        var feedForward = Resolve(s => s.Model = new ModelSpec { Preset = "feed-forward-small", DirectConnections = true });
        config = TrainingSettings.ModelOf(feedForward, 29, 3);
        Assert.Equal(
            new ModelConfig { Architecture = "feed-forward", VocabularySize = 29, Layers = 1, Width = 256, EmbeddingWidth = 64, Context = 64, Window = 8, DirectConnections = true, Tied = false, EndOfTextId = 3 },
            config);
        config.Validate();
    }

    [Fact]
    public void EachKindAndScheduleHasItsOwnKeysAndDefaults()
    {
        var common = new OptimizerSpec { LearningRate = 1e-3, WarmupSteps = 100, WeightDecay = 0, ClipNorm = 1, L2 = 0, ClipValue = 0 };
        Same("sgd", "constant", s => (s.Momentum, s.Nesterov, s.Dampening) = (0, false, 0));
        Same("rmsprop", "step", s => (s.Alpha, s.Centered, s.Momentum, s.Epsilon, s.StepSize, s.Gamma) = (0.99, false, 0, 1e-8, 333, 0.1));
        Same("adam", "linear", s => (s.Beta1, s.Beta2, s.Epsilon, s.MinLearningRate) = (0.9, 0.99, 1e-8, 1e-4));
        Same("adamw", "warmup-stable-decay", s => (s.Beta1, s.Beta2, s.Epsilon, s.WeightDecay, s.MinLearningRate, s.DecayShare) = (0.9, 0.99, 1e-8, 0.1, 1e-4, 0.2));

        void Same(string kind, string schedule, Action<OptimizerSpec> own)
        {
            var expected = common.Clone();
            (expected.Kind, expected.Schedule) = (kind, schedule);
            own(expected);
            var resolved = Resolve(s => s.Optimizer = new OptimizerSpec { Kind = kind, Schedule = schedule });
            Assert.Equal(expected, resolved.Optimizer);
            Assert.Equal(resolved, RunSpecResolver.Resolve(resolved, "another-run"));
            _ = Optimizers.Optimizer.Create(resolved.Optimizer);
        }
    }

    [Fact]
    public void WithPatienceEveryValidatedModelIsKept() =>
        Assert.Equal(40, Resolve(s => s.Training = new TrainingSpec { Patience = 3, ValidationInterval = 40 }).Training.CheckpointInterval);

    [Fact]
    public void TheCallersSpecIsNotChanged()
    {
        var spec = new RunSpec { Dataset = new DatasetSpec { Sources = { "a.txt" } }, Model = new ModelSpec() };
        RunSpecResolver.Resolve(spec, "some-run");
        Assert.Equal(new RunSpec { Dataset = new DatasetSpec { Sources = { "a.txt" } }, Model = new ModelSpec() }, spec);
    }

    public static TheoryData<string, string, Action<RunSpec>> Bad => new()
    {
        { "dataset.sources is empty", "dotnet-docs:", s => s.Dataset = null },
        { "dataset is set, and dataset_name too", "one of them", s => s.DatasetName = "datasets/some" },
        { "'datasets/../x' is not a name", "datasets/ID", s => (s.Dataset, s.DatasetName) = (null, "datasets/../x") },
        { "size is 0", "from 1 to 64", s => s.Size = 0 },
        { "size is set, and model.preset too", "one of them", s => (s.Size, s.Model) = (4, new ModelSpec { Preset = "gpt-nano" }) },
        { "model.preset is 'gpt-huge'", "gpt-nano, gpt-tiny", s => s.Model = new ModelSpec { Preset = "gpt-huge" } },
        { "model.architecture is 'bert'", "gpt2, llama", s => s.Model = new ModelSpec { Architecture = "bert" } },
        { "model.preset is gpt-small, a gpt2", "Leave one", s => s.Model = new ModelSpec { Preset = "gpt-small", Architecture = "llama" } },
        { "model.heads is set", "gpt2, llama only", s => s.Model = new ModelSpec { Architecture = "lstm", Heads = 2 } },
        { "model.window is set", "feed-forward only", s => s.Model = new ModelSpec { Architecture = "gru", Window = 2 } },
        { "model.window is 0", "from 1 to 1024", s => s.Model = new ModelSpec { Architecture = "feed-forward", Window = 0 } },
        { "model.embedding_width is set", "rnn, lstm, gru, feed-forward only", s => s.Model = new ModelSpec { EmbeddingWidth = 2 } },
        { "model.embedding_width is 0", "from 1", s => s.Model = new ModelSpec { Architecture = "rnn", EmbeddingWidth = 0 } },
        { "model.recurrent_dropout is 1", "below 1", s => s.Model = new ModelSpec { Architecture = "lstm", RecurrentDropout = 1 } },
        { "model.variational_dropout is set", "rnn, lstm, gru only", s => s.Model = new ModelSpec { Architecture = "feed-forward", VariationalDropout = true } },
        { "model.kv_heads is set", "llama only", s => s.Model = new ModelSpec { KvHeads = 2 } },
        { "model.rope_theta is set", "llama only", s => s.Model = new ModelSpec { RopeTheta = 2 } },
        { "model.tied is false", "llama", s => s.Model = new ModelSpec { Tied = false } },
        { "model.kv_heads is 4, but must divide model.heads 6", "3 and 6", s => s.Model = new ModelSpec { Architecture = "llama", KvHeads = 4 } },
        { "model.kv_heads is 0", "from 1 to 6", s => s.Model = new ModelSpec { Architecture = "llama", KvHeads = 0 } },
        { "model.heads is 64", "even number", s => s.Model = new ModelSpec { Architecture = "llama", Heads = 64 } },
        { "model.feed_forward_width is 0", "from 1", s => s.Model = new ModelSpec { Architecture = "llama", FeedForwardWidth = 0 } },
        { "model.rope_theta is NaN", "from 1", s => s.Model = new ModelSpec { Architecture = "llama", RopeTheta = double.NaN } },
        { "model.bias is true", "no biases", s => s.Model = new ModelSpec { Architecture = "llama", Bias = true } },
        { "model.objective is masked, but a gru", "gpt2 or llama", s => s.Model = new ModelSpec { Architecture = "gru", Objective = "masked" } },
        { "evaluation.bleu_samples is 4", "continues no text", s => (s.Model, s.Evaluation) = (new ModelSpec { Objective = "masked" }, new EvaluationSpec { BleuSamples = 4 }) },
        { "evaluation.ngram_order is 3", "cannot be compared", s => (s.Model, s.Evaluation) = (new ModelSpec { Objective = "masked" }, new EvaluationSpec { NgramOrder = 3 }) },
        { "model.objective is 'span'", "causal, masked", s => s.Model = new ModelSpec { Objective = "span" } },
        { "model.pooling is 'median'", "last, mean, max, concat", s => s.Model = new ModelSpec { Pooling = "median" } },
        { "model.pooling is mean, but the documents of dataset have no labels", "dataset.label_field", s => s.Model = new ModelSpec { Pooling = "mean" } },
        { "model.layers is 0", "from 1 to 1024", s => s.Model = new ModelSpec { Layers = 0 } },
        { "model.heads is 5, but must divide model.width 192", "4 and 6", s => s.Model = new ModelSpec { Heads = 5 } },
        { "model.width is -1", "from 1", s => s.Model = new ModelSpec { Width = -1 } },
        { "model.context is 0", "from 1", s => s.Model = new ModelSpec { Context = 0 } },
        { "model.dropout is 1", "below 1", s => s.Model = new ModelSpec { Dropout = 1 } },
        { "model.dropout is NaN", "below 1", s => s.Model = new ModelSpec { Dropout = double.NaN } },
        { "optimizer.kind is 'adagrad'", "sgd, rmsprop, adam, adamw", s => s.Optimizer = new OptimizerSpec { Kind = "adagrad" } },
        { "optimizer.learning_rate is 0", "above 0", s => s.Optimizer = new OptimizerSpec { LearningRate = 0 } },
        { "optimizer.learning_rate is Infinity", "above 0", s => s.Optimizer = new OptimizerSpec { LearningRate = double.PositiveInfinity } },
        { "optimizer.min_learning_rate is 1", "optimizer.learning_rate", s => s.Optimizer = new OptimizerSpec { MinLearningRate = 1 } },
        { "optimizer.warmup_steps is 2000", "training.steps", s => s.Optimizer = new OptimizerSpec { WarmupSteps = 2000 } },
        { "optimizer.beta1 is -0.1", "below 1", s => s.Optimizer = new OptimizerSpec { Beta1 = -0.1 } },
        { "optimizer.beta2 is 1", "below 1", s => s.Optimizer = new OptimizerSpec { Beta2 = 1 } },
        { "optimizer.epsilon is 0", "above 0", s => s.Optimizer = new OptimizerSpec { Epsilon = 0 } },
        { "optimizer.weight_decay is -1", "from 0", s => s.Optimizer = new OptimizerSpec { WeightDecay = -1 } },
        { "optimizer.clip_norm is -1", "0 switches clipping off", s => s.Optimizer = new OptimizerSpec { ClipNorm = -1 } },
        { "optimizer.beta1 is set, but optimizer.kind is sgd", "leave it out", s => s.Optimizer = new OptimizerSpec { Kind = "sgd", Beta1 = 0.9 } },
        { "optimizer.epsilon is set, but optimizer.kind is sgd", "leave it out", s => s.Optimizer = new OptimizerSpec { Kind = "sgd", Epsilon = 1e-8 } },
        { "optimizer.momentum is set, but optimizer.kind is adamw", "leave it out", s => s.Optimizer = new OptimizerSpec { Momentum = 0.9 } },
        { "optimizer.momentum is 1", "below 1", s => s.Optimizer = new OptimizerSpec { Kind = "sgd", Momentum = 1 } },
        { "optimizer.nesterov is true, but optimizer.momentum is 0", "for example to 0.9", s => s.Optimizer = new OptimizerSpec { Kind = "sgd", Nesterov = true } },
        { "optimizer.nesterov is set, but optimizer.kind is rmsprop", "leave it out", s => s.Optimizer = new OptimizerSpec { Kind = "rmsprop", Nesterov = true } },
        { "optimizer.dampening is 0.1", "nesterov false", s => s.Optimizer = new OptimizerSpec { Kind = "sgd", Momentum = 0.9, Nesterov = true, Dampening = 0.1 } },
        { "optimizer.alpha is 1", "below 1", s => s.Optimizer = new OptimizerSpec { Kind = "rmsprop", Alpha = 1 } },
        { "optimizer.alpha is set, but optimizer.kind is adam", "leave it out", s => s.Optimizer = new OptimizerSpec { Kind = "adam", Alpha = 0.9 } },
        { "optimizer.centered is set, but optimizer.kind is adamw", "leave it out", s => s.Optimizer = new OptimizerSpec { Centered = false } },
        { "optimizer.l2 is 0.1, but optimizer.kind is adamw", "set optimizer.kind to adam", s => s.Optimizer = new OptimizerSpec { L2 = 0.1 } },
        { "optimizer.l2 is -1", "from 0", s => s.Optimizer = new OptimizerSpec { Kind = "adam", L2 = -1 } },
        { "optimizer.weight_decay is 0.1, but optimizer.kind is adam", "set optimizer.kind to adamw", s => s.Optimizer = new OptimizerSpec { Kind = "adam", WeightDecay = 0.1 } },
        { "optimizer.clip_value is -1", "0 switches clipping by value off", s => s.Optimizer = new OptimizerSpec { ClipValue = -1 } },
        { "optimizer.schedule is 'exponential'", "constant, step, cosine, linear, warmup-stable-decay", s => s.Optimizer = new OptimizerSpec { Schedule = "exponential" } },
        { "optimizer.min_learning_rate is set, but optimizer.schedule is constant", "leave it out", s => s.Optimizer = new OptimizerSpec { Schedule = "constant", MinLearningRate = 1e-5 } },
        { "optimizer.gamma is set, but optimizer.schedule is cosine", "leave it out", s => s.Optimizer = new OptimizerSpec { Gamma = 0.5 } },
        { "optimizer.gamma is 2", "at most 1", s => s.Optimizer = new OptimizerSpec { Schedule = "step", Gamma = 2 } },
        { "optimizer.step_size is 0", "from 1", s => s.Optimizer = new OptimizerSpec { Schedule = "step", StepSize = 0 } },
        { "optimizer.decay_share is 0", "above 0", s => s.Optimizer = new OptimizerSpec { Schedule = "warmup-stable-decay", DecayShare = 0 } },
        { "training.label_smoothing is 1", "below 1", s => s.Training = new TrainingSpec { LabelSmoothing = 1 } },
        { "training.patience is -1", "0 switches early stopping off", s => s.Training = new TrainingSpec { Patience = -1 } },
        { "training.min_improvement is 0.1, but training.patience is 0", "set training.patience above 0", s => s.Training = new TrainingSpec { MinImprovement = 0.1 } },
        { "training.checkpoint_interval is 100, but must divide training.validation_interval 250", "leave it out", s => s.Training = new TrainingSpec { Patience = 3, CheckpointInterval = 100 } },
        { "training.steps is 0", "from 1", s => s.Training = new TrainingSpec { Steps = 0 } },
        { "training.steps is 100000000", "99999999", s => s.Training = new TrainingSpec { Steps = 100_000_000 } },
        { "training.batch_size is -4", "from 1", s => s.Training = new TrainingSpec { BatchSize = -4 } },
        { "training.micro_batch_size is 5, but must divide training.batch_size 12", "4 and 6", s => s.Training = new TrainingSpec { BatchSize = 12, MicroBatchSize = 5 } },
        { "training.micro_batch_size is 13", "training.batch_size", s => s.Training = new TrainingSpec { BatchSize = 12, MicroBatchSize = 13 } },
        { "training.validation_interval is 0", "from 1", s => s.Training = new TrainingSpec { ValidationInterval = 0 } },
        { "training.validation_sequences is -1", "0 takes all", s => s.Training = new TrainingSpec { ValidationSequences = -1 } },
        { "training.checkpoint_interval is 0", "from 1", s => s.Training = new TrainingSpec { CheckpointInterval = 0 } },
        { "training.keep_checkpoints is 0", "from 1", s => s.Training = new TrainingSpec { KeepCheckpoints = 0 } },
        { "training.max_seconds is -1", "0 sets no limit", s => s.Training = new TrainingSpec { MaxSeconds = -1 } },
        { "training.min_workers is 5, but must be from 1 to 4", "micro_batch_size", s => s.Training = new TrainingSpec { MinWorkers = 5 } },
        { "training.precision is 'fp8'", "auto, fp32, bf16, fp16", s => s.Training = new TrainingSpec { Precision = "fp8" } },
        { "evaluation.split is 'dev'", "validation, test, train", s => s.Evaluation = new EvaluationSpec { Split = "dev" } },
        { "evaluation.bleu_samples is -1", "leaves BLEU out", s => s.Evaluation = new EvaluationSpec { BleuSamples = -1 } },
        { "evaluation.bleu_tokens is 0", "from 1", s => s.Evaluation = new EvaluationSpec { BleuTokens = 0 } },
        { "evaluation.ngram_order is 99", "leaves the n-gram out", s => s.Evaluation = new EvaluationSpec { NgramOrder = 99 } },
        { "evaluation.checkpoint is 'first'", "best, last", s => s.Evaluation = new EvaluationSpec { Checkpoint = "first" } },
        { "publish.model_id 'My Model' is not an id", "4 to 63", s => s.Publish = new PublishSpec { ModelId = "My Model" } },
        { "publish.max_loss is -1", "lets every model pass", s => s.Publish = new PublishSpec { MaxLoss = -1 } },
    };

    [Theory(DisableDiscoveryEnumeration = true)]
    [MemberData(nameof(Bad))]
    public void ABadFieldIsNamedWithItsRangeAndTheRemedy(string problem, string remedy, Action<RunSpec> change)
    {
        var exception = Record.Exception(() => Resolve(change));
        var message = exception is RpcException rpc ? rpc.Status.Detail : Assert.IsType<Storage.InvalidResourceNameException>(exception).Message;
        Assert.StartsWith(problem, message);
        Assert.Contains(remedy, message);
    }

    internal static RunSpec Resolve(Action<RunSpec>? change = null)
    {
        var spec = new RunSpec { Dataset = new DatasetSpec { Sources = { "a.txt" } } };
        change?.Invoke(spec);
        return RunSpecResolver.Resolve(spec, "some-run");
    }

    /// <summary>Names of the fields that are not set, but for the dataset's own, which the Preprocessor resolves.</summary>
    private static IEnumerable<string> Unset(IMessage message) => message.Descriptor.Fields.InDeclarationOrder().SelectMany(field =>
        field.HasPresence && !field.Accessor.HasValue(message) ? [field.Name]
        : field is { FieldType: FieldType.Message, IsRepeated: false } && field.Name != "dataset" ? Unset((IMessage)field.Accessor.GetValue(message))
        : []);
}
