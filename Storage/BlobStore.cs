using Azure.Core;
using Azure.Identity;
using Azure.Storage.Blobs;

namespace LlmPipeline.Storage;

/// <summary>Opens the store that a connection string names.</summary>
public static class BlobStore
{
    /// <summary>Opens a store.</summary>
    /// <param name="connectionString">
    /// <c>folder=PATH</c>; or an Azure Storage connection string; or a blob service URI (with <c>DefaultAzureCredential</c>,
    /// unless it carries a SAS), alone or as <c>Endpoint=URI</c>. The Azure forms take <c>;ContainerName=NAME</c>, default
    /// <c>llmpipeline</c>.
    /// </param>
    /// <exception cref="ArgumentException">The text is none of these, or missing; the message names the forms.</exception>
    public static IBlobStore Open(string? connectionString)
    {
        const string FolderKey = "folder=";
        if (string.IsNullOrWhiteSpace(connectionString))
        {
            throw new ArgumentException(
                "The storage connection string is not set. Set the environment variable ConnectionStrings__storage, for example to 'folder=/var/lib/llmpipeline'.",
                nameof(connectionString));
        }

        if (connectionString.StartsWith(FolderKey, StringComparison.OrdinalIgnoreCase) && connectionString[FolderKey.Length..].Trim() is { Length: > 0 } folder)
        {
            return new FolderBlobStore(folder);
        }

        var parts = connectionString.Split(';', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        var container = Value(parts, "ContainerName") ?? "llmpipeline";
        var others = parts.Where(p => !IsKey(p, "ContainerName")).ToArray();
        var endpoint = Value(others, "Endpoint") ?? (others is [var single] && single.StartsWith("http", StringComparison.OrdinalIgnoreCase) ? single : null);
        try
        {
            if (endpoint is not null && Uri.TryCreate(endpoint, UriKind.Absolute, out var uri) && uri.Scheme is "http" or "https")
            {
                TokenCredential? credential = uri.Query.Contains("sig=", StringComparison.Ordinal) ? null : new DefaultAzureCredential();
                var service = credential is null
                    ? new BlobServiceClient(uri, AzureBlobStore.ClientOptions())
                    : new BlobServiceClient(uri, credential, AzureBlobStore.ClientOptions());
                return new AzureBlobStore(service.GetBlobContainerClient(container));
            }

            if (others.Any(p => IsKey(p, "AccountName") || IsKey(p, "BlobEndpoint") || IsKey(p, "UseDevelopmentStorage")))
            {
                return new AzureBlobStore(new BlobServiceClient(string.Join(';', others), AzureBlobStore.ClientOptions()).GetBlobContainerClient(container));
            }
        }
        catch (FormatException exception)
        {
            throw new ArgumentException($"The storage connection string is malformed: {exception.Message}", nameof(connectionString), exception);
        }

        // The text may hold a key: it is not repeated.
        throw new ArgumentException(
            "The storage connection string is not understood. Use 'folder=PATH', an Azure Storage connection string, or a blob service URI, "
            + "alone or as 'Endpoint=URI'; the last two take ';ContainerName=NAME'.",
            nameof(connectionString));
    }

    private static bool IsKey(string part, string key) =>
        part.Length > key.Length && part[key.Length] == '=' && part.StartsWith(key, StringComparison.OrdinalIgnoreCase);

    private static string? Value(string[] parts, string key) =>
        parts.FirstOrDefault(p => IsKey(p, key)) is { } part ? part[(key.Length + 1)..].Trim('"', ' ') : null;
}
