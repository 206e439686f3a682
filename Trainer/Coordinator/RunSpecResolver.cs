using Grpc.Core;
using LlmPipeline.Runs.V1;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;
using LlmPipeline.Text;
using LlmPipeline.Text.NGrams;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary>
/// Fills in what a spec leaves open (the preset's value, then the default that run_spec.proto names) and checks all of it.
/// A resolved spec, resolved again, gives itself. What belongs to the dataset alone is resolved by the Preprocessor.
/// </summary>
internal static class RunSpecResolver
{
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
            SizeDial.Apply(resolved);
            resolved.Model = ModelSpecResolver.Resolve(resolved.Model ?? new ModelSpec(), hasSize: resolved.HasSize || resolved.FineTune is not null);
            resolved.Training = TrainingSpecResolver.Resolve(resolved.Training ?? new TrainingSpec(), resolved.Model.Architecture);
            resolved.Optimizer = OptimizerSpecResolver.Resolve(resolved.Optimizer ?? new OptimizerSpec(), resolved.Training.Steps);
            LocalSpecResolver.Check(resolved.Training, resolved.Optimizer);
        }

        var pooling = resolved.Model.Pooling;
        SpecCheck.That(pooling is "" or "last" || resolved.Dataset is null or { HasLabelField: true } or { LabelParts: true }, "model.pooling",
            $"is {pooling}, but the documents of dataset have no labels to classify by. Set dataset.label_field or dataset.label_parts, or model.pooling to last");
        var isMasked = resolved.Model.Objective == "masked";
        if (isMasked)
        {
            AddMaskToken(resolved);
        }

        resolved.Evaluation = Resolve(resolved.Evaluation ?? new EvaluationSpec(), isMasked);
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

        SpecCheck.That(spec.Dataset is { Sources.Count: > 0 } or { Mixture.Count: > 0 }, "dataset.sources",
            $"is empty; name the text: 'dotnet-docs:', a file, a folder or a glob (or set dataset_name to a dataset that exists)");
    }

    // A tokenizer that exists already has one or not; then training says so.
    private static void AddMaskToken(RunSpec spec)
    {
        if (spec.Dataset is not null && spec.Dataset.Tokenizer is not { HasName: true } and not { HasFile: true })
        {
            var special = (spec.Dataset.Tokenizer ??= new Datasets.V1.TokenizerSpec()).SpecialTokens;
            if (!special.Contains(SpecialTokens.Mask))
            {
                special.Add(SpecialTokens.Mask);
            }
        }
    }

    private static EvaluationSpec Resolve(EvaluationSpec evaluation, bool isMasked)
    {
        evaluation.Split = evaluation.HasSplit ? evaluation.Split : "validation";
        SpecCheck.OneOf(evaluation.Split, ["validation", "test", "train"], "evaluation.split");
        evaluation.BleuSamples = evaluation.HasBleuSamples ? evaluation.BleuSamples : isMasked ? 0 : 64;
        SpecCheck.InRange(evaluation.BleuSamples, 0, 100_000, "evaluation.bleu_samples", "0 leaves BLEU out");
        evaluation.BleuTokens = evaluation.HasBleuTokens ? evaluation.BleuTokens : 32;
        SpecCheck.InRange(evaluation.BleuTokens, 1, 1 << 16, "evaluation.bleu_tokens");
        evaluation.NgramOrder = evaluation.HasNgramOrder ? evaluation.NgramOrder : isMasked ? 0 : 3;
        SpecCheck.InRange(evaluation.NgramOrder, 0, NgramOptions.MaxOrder, "evaluation.ngram_order", "0 leaves the n-gram out");
        SpecCheck.That(!isMasked || evaluation.BleuSamples == 0, "evaluation.bleu_samples", $"is {evaluation.BleuSamples}, but a model with model.objective masked continues no text. Leave it out");
        SpecCheck.That(!isMasked || evaluation.NgramOrder == 0, "evaluation.ngram_order", $"is {evaluation.NgramOrder}, but an n-gram cannot be compared with a model with model.objective masked. Leave it out");
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

}
