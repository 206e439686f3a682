using LlmPipeline.Models;
using LlmPipeline.Runs.V1;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;
using LlmPipeline.Text;
using TorchSharp;

namespace LlmPipeline.Trainer.Worker;

/// <summary>Makes the network that a run begins with, or that a checkpoint is loaded into.</summary>
internal static class FineTuning
{
    /// <summary>Creates it: with fresh weights, or with those of the base. What is not trained is the same on every worker that calls this.</summary>
    /// <param name="store">Where the base lies.</param>
    /// <param name="spec">The resolved spec.</param>
    /// <param name="dataset">What is trained on.</param>
    /// <param name="checkpoint">The weights come from this checkpoint later; empty when they do not.</param>
    /// <param name="device">Where it computes.</param>
    /// <param name="cancellationToken">Ends the reading.</param>
    /// <exception cref="FatalTrainingException">It is to read documents for their class, and they have none.</exception>
    public static async Task<LanguageModel> CreateAsync(IBlobStore store, RunSpec spec, TrainingDataset dataset, string checkpoint, torch.Device device, CancellationToken cancellationToken)
    {
        if (dataset.Labels is null && TrainingSettings.PoolingOf(spec) != Pooling.Last)
        {
            throw new FatalTrainingException(ErrorReasons.InvalidSpec, $"model.pooling is {spec.Model.Pooling}, but the documents of '{dataset.Name}' have no labels to classify by. Name a dataset with labels, or set model.pooling to last.");
        }

        if (spec.FineTune is not { } tune)
        {
            return LanguageModel.Create(TrainingSettings.ModelOf(spec, dataset.VocabularySize, dataset.EndOfTextId, dataset.MaskTokenId) with { Labels = dataset.Labels }, spec.Seed, device);
        }

        var folder = await store.GetVerifiedLocalDirectoryAsync(checkpoint.Length > 0 ? checkpoint : tune.Base, cancellationToken);
        var known = ModelDirectory.ReadConfig(folder);
        var trainsEmbedding = checkpoint.Length > 0 ? ModelDirectory.AdapterTrainsEmbedding(folder, known) : dataset.VocabularySize > Tokenizer(folder).VocabularySize;
        var config = Config(known, spec, dataset, trainsEmbedding);
        return checkpoint.Length > 0 ? LanguageModel.Create(config, spec.Seed, device) : BaseModel.Load(folder, config, spec.Seed, device);
    }

    private static ITokenizer Tokenizer(string folder) => TokenizerFile.Load(Path.Combine(folder, ModelDirectory.TokenizerFile));

    // A model may have more ids than its tokenizer.
    private static ModelConfig Config(ModelConfig known, RunSpec spec, TrainingDataset dataset, bool trainsEmbedding) => known with
    {
        VocabularySize = Math.Max(known.VocabularySize, dataset.VocabularySize),
        EndOfTextId = dataset.EndOfTextId,
        Dropout = spec.Model.Dropout,
        VariationalDropout = spec.Model.VariationalDropout,
        RecurrentDropout = spec.Model.RecurrentDropout,
        Labels = dataset.Labels,
        Pooling = TrainingSettings.PoolingOf(spec),
        Tuning = spec.FineTune.Method switch
        {
            "frozen" => new TuningOptions { FrozenBlocks = spec.FineTune.FrozenBlocks, FrozenEmbedding = spec.FineTune.FrozenEmbedding },
            "lora" => new TuningOptions
            {
                Lora = new LoraOptions
                {
                    Rank = spec.FineTune.Lora.Rank,
                    Alpha = spec.FineTune.Lora.Alpha,
                    Dropout = spec.FineTune.Lora.Dropout,
                    Targets = [.. spec.FineTune.Lora.Targets],
                },
                TrainedEmbedding = trainsEmbedding,
            },
            _ => null,
        },
    };
}
