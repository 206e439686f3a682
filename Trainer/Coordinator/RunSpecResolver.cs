using Grpc.Core;
using LlmPipeline.Models;
using LlmPipeline.Runs.V1;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;
using LlmPipeline.Text.NGrams;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary>
/// Fills in what a spec leaves open (the preset's value, then the default that run_spec.proto names) and checks all of it.
/// A resolved spec, resolved again, gives itself. What belongs to the dataset alone is resolved by the Preprocessor.
/// </summary>
internal static class RunSpecResolver
{
    /// <summary>Steps are written with 8 digits in names.</summary>
    private const long MaxSteps = 99_999_999;

    private const int MaxBatch = 1 << 20;

    /// <summary>Resolves a spec.</summary>
    /// <param name="spec">As it was sent.</param>
    /// <param name="runId">Id of the run; the default of the published model's id.</param>
    /// <exception cref="RpcException">INVALID_ARGUMENT with a message that names key, range and remedy.</exception>
    public static RunSpec Resolve(RunSpec? spec, string runId)
    {
        var resolved = spec?.Clone() ?? throw RpcErrors.Create(
            StatusCode.InvalidArgument, ErrorReasons.InvalidSpec, "spec is not set; give at least dataset.sources.");
        CheckDataset(resolved);
        if (NgramSpecResolver.Applies(resolved))
        {
            NgramSpecResolver.Resolve(resolved);
        }
        else
        {
            resolved.Model = Resolve(resolved.Model ?? new ModelSpec());
            resolved.Training = Resolve(resolved.Training ?? new TrainingSpec());
            resolved.Optimizer = Resolve(resolved.Optimizer ?? new OptimizerSpec(), resolved.Training.Steps);
        }

        resolved.Evaluation = Resolve(resolved.Evaluation ?? new EvaluationSpec());
        resolved.Publish = Resolve(resolved.Publish ?? new PublishSpec(), runId);
        resolved.Seed = resolved.HasSeed ? resolved.Seed : 1;
        return resolved;
    }

    private static void CheckDataset(RunSpec spec)
    {
        if (spec.HasDatasetName)
        {
            SpecCheck.That(spec.Dataset is null, "dataset", $"is set, and dataset_name too; give one of them");
            ResourceName.IdOf(spec.DatasetName, "datasets");
            return;
        }

        SpecCheck.That(spec.Dataset is { Sources.Count: > 0 }, "dataset.sources",
            $"is empty; name the text: 'dotnet-docs:', a file, a folder or a glob (or set dataset_name to a dataset that exists)");
    }

    private static ModelSpec Resolve(ModelSpec model)
    {
        model.Preset = model.HasPreset ? model.Preset : ModelPresets.Default;
        SpecCheck.OneOf(model.Preset, ModelPresets.All.Keys, "model.preset");
        var resolved = ModelPresets.All[model.Preset].Clone();
        resolved.MergeFrom(model);
        SpecCheck.OneOf(resolved.Architecture, ["gpt2", NgramTokenModel.Architecture], "model.architecture");
        SpecCheck.That(resolved.Ngram is null, "model.ngram", $"is set, but model.architecture is {resolved.Architecture}; set model.architecture to {NgramTokenModel.Architecture}, or leave model.ngram out");
        SpecCheck.InRange(resolved.Layers, 1, 1024, "model.layers");
        SpecCheck.InRange(resolved.Width, 1, 65_536, "model.width");
        SpecCheck.InRange(resolved.Heads, 1, resolved.Width, "model.heads");
        SpecCheck.That(resolved.Width % resolved.Heads == 0, "model.heads",
            $"is {resolved.Heads}, but must divide model.width {resolved.Width}; the nearest numbers that do are {Divisors(resolved.Width, resolved.Heads)}");
        SpecCheck.InRange(resolved.Context, 1, 1 << 20, "model.context");
        SpecCheck.Share(resolved.Dropout, "model.dropout");
        return resolved;
    }

    private static TrainingSpec Resolve(TrainingSpec training)
    {
        training.Steps = training.HasSteps ? training.Steps : 1000;
        SpecCheck.InRange(training.Steps, 1, MaxSteps, "training.steps");
        training.BatchSize = training.HasBatchSize ? training.BatchSize : 32;
        SpecCheck.InRange(training.BatchSize, 1, MaxBatch, "training.batch_size");
        training.MicroBatchSize = training.HasMicroBatchSize ? training.MicroBatchSize
            : training.BatchSize % 4 == 0 ? training.BatchSize / 4 : 1;
        SpecCheck.InRange(training.MicroBatchSize, 1, training.BatchSize, "training.micro_batch_size",
            "the upper end is training.batch_size");
        SpecCheck.That(training.BatchSize % training.MicroBatchSize == 0, "training.micro_batch_size",
            $"is {training.MicroBatchSize}, but must divide training.batch_size {training.BatchSize}; the nearest numbers that do are {Divisors(training.BatchSize, training.MicroBatchSize)}");
        training.ValidationInterval = training.HasValidationInterval ? training.ValidationInterval : 250;
        SpecCheck.InRange(training.ValidationInterval, 1, MaxSteps, "training.validation_interval", "a number above training.steps validates at the end only");
        training.ValidationSequences = training.HasValidationSequences ? training.ValidationSequences : 200;
        SpecCheck.InRange(training.ValidationSequences, 0, int.MaxValue, "training.validation_sequences", "0 takes all of the validation split");
        training.CheckpointInterval = training.HasCheckpointInterval ? training.CheckpointInterval : 250;
        SpecCheck.InRange(training.CheckpointInterval, 1, MaxSteps, "training.checkpoint_interval", "a number above training.steps writes one at the end only");
        training.KeepCheckpoints = training.HasKeepCheckpoints ? training.KeepCheckpoints : 2;
        SpecCheck.InRange(training.KeepCheckpoints, 1, 1_000_000, "training.keep_checkpoints");
        training.MaxSeconds = training.HasMaxSeconds ? training.MaxSeconds : 0;
        SpecCheck.InRange(training.MaxSeconds, 0, 1e9, "training.max_seconds", "0 sets no limit");
        training.MinWorkers = training.HasMinWorkers ? training.MinWorkers : 1;
        var microBatches = training.BatchSize / training.MicroBatchSize;
        SpecCheck.That(training.MinWorkers >= 1 && training.MinWorkers <= microBatches, "training.min_workers",
            $"is {training.MinWorkers}, but must be from 1 to {microBatches}, the micro-batches of a step (training.batch_size {training.BatchSize} / training.micro_batch_size {training.MicroBatchSize}); a smaller micro_batch_size allows more");
        return training;
    }

    private static OptimizerSpec Resolve(OptimizerSpec optimizer, long steps)
    {
        optimizer.Kind = optimizer.HasKind ? optimizer.Kind : "adamw";
        SpecCheck.OneOf(optimizer.Kind, ["adamw"], "optimizer.kind");
        optimizer.LearningRate = optimizer.HasLearningRate ? optimizer.LearningRate : 1e-3;
        SpecCheck.Positive(optimizer.LearningRate, 1e6, "optimizer.learning_rate");
        optimizer.MinLearningRate = optimizer.HasMinLearningRate ? optimizer.MinLearningRate : optimizer.LearningRate / 10;
        SpecCheck.InRange(optimizer.MinLearningRate, 0, optimizer.LearningRate, "optimizer.min_learning_rate", "the upper end is optimizer.learning_rate");
        optimizer.WarmupSteps = optimizer.HasWarmupSteps ? optimizer.WarmupSteps : Math.Min(100, steps / 10);
        SpecCheck.InRange(optimizer.WarmupSteps, 0, steps, "optimizer.warmup_steps", "the upper end is training.steps");
        optimizer.Beta1 = optimizer.HasBeta1 ? optimizer.Beta1 : 0.9;
        SpecCheck.Share(optimizer.Beta1, "optimizer.beta1");
        optimizer.Beta2 = optimizer.HasBeta2 ? optimizer.Beta2 : 0.99;
        SpecCheck.Share(optimizer.Beta2, "optimizer.beta2");
        optimizer.Epsilon = optimizer.HasEpsilon ? optimizer.Epsilon : 1e-8;
        SpecCheck.Positive(optimizer.Epsilon, 1, "optimizer.epsilon");
        optimizer.WeightDecay = optimizer.HasWeightDecay ? optimizer.WeightDecay : 0.1;
        SpecCheck.InRange(optimizer.WeightDecay, 0, 1e6, "optimizer.weight_decay");
        optimizer.ClipNorm = optimizer.HasClipNorm ? optimizer.ClipNorm : 1;
        SpecCheck.InRange(optimizer.ClipNorm, 0, 1e6, "optimizer.clip_norm", "0 switches clipping off");
        return optimizer;
    }

    private static EvaluationSpec Resolve(EvaluationSpec evaluation)
    {
        evaluation.Split = evaluation.HasSplit ? evaluation.Split : "validation";
        SpecCheck.OneOf(evaluation.Split, ["validation", "test", "train"], "evaluation.split");
        evaluation.BleuSamples = evaluation.HasBleuSamples ? evaluation.BleuSamples : 64;
        SpecCheck.InRange(evaluation.BleuSamples, 0, 100_000, "evaluation.bleu_samples", "0 leaves BLEU out");
        evaluation.BleuTokens = evaluation.HasBleuTokens ? evaluation.BleuTokens : 32;
        SpecCheck.InRange(evaluation.BleuTokens, 1, 1 << 16, "evaluation.bleu_tokens");
        evaluation.NgramOrder = evaluation.HasNgramOrder ? evaluation.NgramOrder : 3;
        SpecCheck.InRange(evaluation.NgramOrder, 0, NgramOptions.MaxOrder, "evaluation.ngram_order", "0 leaves the n-gram out");
        evaluation.Checkpoint = evaluation.HasCheckpoint ? evaluation.Checkpoint : "best";
        SpecCheck.OneOf(evaluation.Checkpoint, ["best", "last"], "evaluation.checkpoint");
        return evaluation;
    }

    private static PublishSpec Resolve(PublishSpec publish, string runId)
    {
        publish.ModelId = publish.HasModelId ? publish.ModelId : runId;
        ResourceName.RequireId(publish.ModelId, "publish.model_id");
        publish.MaxLoss = publish.HasMaxLoss ? publish.MaxLoss : 0;
        SpecCheck.InRange(publish.MaxLoss, 0, 1e6, "publish.max_loss", "0 lets every model pass");
        return publish;
    }

    private static string Divisors(int number, int near)
    {
        var below = Enumerable.Range(1, Math.Min(near, number)).LastOrDefault(d => number % d == 0);
        var above = Enumerable.Range(near, Math.Max(0, number - near) + 1).FirstOrDefault(d => number % d == 0);
        return above == 0 ? $"{below}" : $"{below} and {above}";
    }
}
