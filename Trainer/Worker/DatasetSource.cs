using LlmPipeline.Storage;
using LlmPipeline.Text;

namespace LlmPipeline.Trainer.Worker;

/// <summary>What training needs of a dataset.</summary>
/// <param name="Name">Format: <c>datasets/{d}</c>.</param>
/// <param name="Train">The stream to train on.</param>
/// <param name="Validation">The stream to validate on; null when there is none.</param>
/// <param name="VocabularySize">Number of ids.</param>
/// <param name="EndOfTextId">Id between documents.</param>
/// <param name="TokenizerJson">The tokenizer's file.</param>
/// <param name="Owner">Disposed with it.</param>
internal sealed record TrainingDataset(
    string Name, TokenSplit Train, TokenSplit? Validation, int VocabularySize, int EndOfTextId, string TokenizerJson, IDisposable? Owner) : IDisposable
{
    /// <summary>Equal for datasets with the same content; null when it is not known.</summary>
    public string? Fingerprint { get; init; }

    /// <summary>Names of the classes of documents; null when they have none.</summary>
    public IReadOnlyList<string>? Labels { get; init; }

    /// <summary>Id that stands for a masked token; null where the tokenizer has none.</summary>
    public int? MaskTokenId { get; init; }

    /// <inheritdoc/>
    public void Dispose() => Owner?.Dispose();
}

/// <summary>Opens datasets by name.</summary>
internal delegate Task<TrainingDataset> DatasetSource(string name, CancellationToken cancellationToken);

/// <summary>Datasets in storage.</summary>
internal static class StoredDatasets
{
    /// <summary>A source of the datasets in a store.</summary>
    public static DatasetSource In(IBlobStore store) => async (name, cancellationToken) =>
    {
        var dataset = await TokenDataset.OpenAsync(store, name, cancellationToken);
        try
        {
            var tokenizer = dataset.Tokenizer;
            return new TrainingDataset(name, dataset.Split("train"), Validation(dataset), tokenizer.VocabularySize, tokenizer.EndOfTextId, tokenizer.ToJson(), dataset)
            {
                Fingerprint = dataset.Properties.Fingerprint,
                MaskTokenId = SpecialTokens.MaskIn(tokenizer.SpecialIds),
                Labels = dataset.Properties.Labels,
            };
        }
        catch
        {
            dataset.Dispose();
            throw;
        }
    };

    private static TokenSplit? Validation(TokenDataset dataset)
    {
        try
        {
            return dataset.Split("validation");
        }
        catch (InvalidDataException)
        {
            return null;
        }
    }
}
