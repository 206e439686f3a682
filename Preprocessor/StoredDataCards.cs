using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Grpc.Core;
using LlmPipeline.Datasets.V1;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;
using LlmPipeline.Text.Reports;

namespace LlmPipeline.Preprocessor;

/// <summary>Reads the data cards of datasets that are READY.</summary>
internal static class StoredDataCards
{
    /// <summary>The card of a dataset.</summary>
    /// <exception cref="RpcException">The dataset is not READY, or its card is missing or damaged.</exception>
    public static async Task<DataCard> ReadAsync(IBlobStore store, Dataset dataset, CancellationToken cancellationToken)
    {
        if (dataset.State != Dataset.Types.State.Ready)
        {
            RpcErrors.ThrowFailedPrecondition(ErrorReasons.WrongState, $"'{dataset.Name}' has no data card: it is not READY but {dataset.State.ToString().ToUpperInvariant()}.");
        }

        var manifest = await store.TryReadManifestAsync(dataset.Name, cancellationToken);
        var entry = manifest?.Files.FirstOrDefault(f => f.Name == DataCard.JsonFile);
        if (entry is null || await store.TryReadTextAsync($"{dataset.Name}/{DataCard.JsonFile}", cancellationToken) is not (var text, _))
        {
            throw RpcErrors.Create(StatusCode.NotFound, ErrorReasons.NotFound, $"'{dataset.Name}' has no data card: its file {DataCard.JsonFile} is not there. Create the dataset again.");
        }

        var json = Encoding.UTF8.GetBytes(text);
        if (Convert.ToHexStringLower(SHA256.HashData(json)) != entry.Sha256)
        {
            throw Damaged("it is not the file that the manifest names.");
        }

        try
        {
            return DataCard.FromJson(json);
        }
        catch (JsonException exception)
        {
            throw Damaged(exception.Message);
        }

        RpcException Damaged(string what) => RpcErrors.Create(
            StatusCode.DataLoss, ErrorReasons.CorruptData, $"'{dataset.Name}/{DataCard.JsonFile}' is damaged: {what} Delete the dataset and create it again.");
    }
}
