using LlmPipeline.Datasets.V1;
using LlmPipeline.Storage;
using LlmPipeline.Text.Shards;

namespace LlmPipeline.Preprocessor;

/// <summary>Looks for what a record promises.</summary>
internal static class CommittedDataset
{
    /// <summary>
    /// The properties of a dataset that is committed and has all its files, with the right lengths, and its tokenizer; otherwise
    /// null. Hashes are left to the reader: this is asked for with each create.
    /// </summary>
    public static async Task<DatasetProperties?> TryFindAsync(IBlobStore store, Dataset dataset, CancellationToken cancellationToken)
    {
        try
        {
            if (await store.TryReadManifestAsync(dataset.Name, cancellationToken) is not { } manifest)
            {
                return null;
            }

            var properties = DatasetProperties.FromManifest(manifest, dataset.Name);
            if (properties.Fingerprint != dataset.Fingerprint || await store.TryReadManifestAsync(properties.Tokenizer, cancellationToken) is null)
            {
                return null;
            }

            foreach (var file in manifest.Files)
            {
                var found = await store.TryGetPropertiesAsync($"{dataset.Name}/{file.Name}", cancellationToken);
                if (found?.Length != file.Length)
                {
                    return null;
                }
            }

            return properties;
        }
        catch (CorruptDirectoryException)
        {
            return null;
        }
    }
}
