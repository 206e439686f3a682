using Azure;
using Azure.Identity;
using Azure.Storage.Blobs;
using Azure.Storage.Blobs.Models;

namespace LlmPipeline.Text.Sources;

/// <summary>Blobs of Azure Storage: <c>az://CONTAINER/PREFIX</c>, every blob whose name begins so, or a glob.</summary>
internal sealed class AzureBlobs(SourceOptions options)
{
    public const string Scheme = "az://";

    /// <summary>The blobs that a source names.</summary>
    public async Task<IReadOnlyList<SourceFile>> FindAsync(string source, CancellationToken cancellationToken)
    {
        var (container, pattern) = Parse(source);
        var glob = PathGlob.IsGlob(pattern) ? PathGlob.OfRelative(pattern) : null;
        var prefix = glob is null ? pattern : pattern[..pattern.AsSpan().IndexOfAny('*', '?')];
        var files = new List<SourceFile>();
        try
        {
            await foreach (var blob in Container(container).GetBlobsAsync(BlobTraits.None, BlobStates.None, prefix, cancellationToken))
            {
                if (glob?.Matches(blob.Name, relative: true) != false && SourceFile.FormatOf(blob.Name) is var (format, compression))
                {
                    var hash = blob.Properties.ContentHash is { Length: 16 } md5 ? $" md5:{Convert.ToHexStringLower(md5)}" : "";
                    files.Add(new SourceFile($"{Scheme}{container}/{blob.Name}", blob.Properties.ContentLength ?? 0, default, format, compression, $"etag:{blob.Properties.ETag}{hash}"));
                }
            }
        }
        catch (Exception exception) when (exception is RequestFailedException or AuthenticationFailedException or AggregateException)
        {
            throw Failed(source, exception);
        }

        files.Sort((a, b) => string.CompareOrdinal(a.Path, b.Path));
        return files.Count > 0 ? files : throw new TextSourceException(TextSourceProblem.NotFound, $"Source '{source}' names no blob that ends in {SourceFile.KnownEndings}.");
    }

    /// <summary>Opens the content of a blob that was found, from a position on.</summary>
    /// <exception cref="TextSourceException">It changed, or cannot be read.</exception>
    /// <exception cref="TransientSourceException">Another try may succeed.</exception>
    public async Task<Stream> OpenAsync(SourceFile file, long from, CancellationToken cancellationToken)
    {
        var (container, name) = Parse(file.Path);
        var tag = file.Identity!.Split(' ')[0]["etag:".Length..];
        try
        {
            var response = await Container(container).GetBlobClient(name).DownloadStreamingAsync(
                new BlobDownloadOptions { Range = new HttpRange(from), Conditions = new BlobRequestConditions { IfMatch = new ETag(tag) } }, cancellationToken);
            return response.Value.Content;
        }
        catch (RequestFailedException exception) when (exception.Status == 412)
        {
            throw new TextSourceException(TextSourceProblem.Changed, $"'{file.Path}' changed after the dataset was created. Create it again.", exception);
        }
        catch (Exception exception) when (exception is RequestFailedException { Status: 0 or 408 or 429 or >= 500 } or AggregateException) // of all tries
        {
            throw new TransientSourceException($"'{file.Path}': {exception.Message.Split('\n')[0]}", null, exception);
        }
        catch (Exception exception) when (exception is RequestFailedException or AuthenticationFailedException)
        {
            throw Failed(file.Path, exception);
        }
    }

    private BlobContainerClient Container(string name)
    {
        var connection = options.AzureConnection ?? throw new TextSourceException(TextSourceProblem.NotFound,
            "An az:// source needs the connection string 'sources': set ConnectionStrings__sources to an Azure Storage connection string or to the address of an account.");
        try
        {
            var clientOptions = new BlobClientOptions();
            clientOptions.Retry.MaxRetries = 4;
            clientOptions.Retry.NetworkTimeout = options.IdleTimeout;
            var service = !Uri.TryCreate(connection, UriKind.Absolute, out var address) || address.Scheme != Uri.UriSchemeHttps ? new BlobServiceClient(connection, clientOptions)
                : address.Query.Contains("sig=", StringComparison.Ordinal) ? new BlobServiceClient(address, clientOptions)
                : new BlobServiceClient(address, new DefaultAzureCredential(), clientOptions);
            return service.GetBlobContainerClient(name);
        }
        catch (FormatException exception)
        {
            // The text may hold a key: it is not repeated.
            throw new TextSourceException(TextSourceProblem.NotFound, "The connection string 'sources' is not one of Azure Storage. Mend ConnectionStrings__sources.", exception);
        }
    }

    private static (string Container, string Name) Parse(string source)
    {
        var rest = source[Scheme.Length..];
        var slash = rest.IndexOf('/', StringComparison.Ordinal);
        var container = slash < 0 ? rest : rest[..slash];
        return container.Length is >= 3 and <= 63 && container.All(c => char.IsAsciiLetterLower(c) || char.IsAsciiDigit(c) || c is '-' or '$')
            ? (container, slash < 0 ? "" : rest[(slash + 1)..])
            : throw new TextSourceException(TextSourceProblem.NotFound, $"'{source}' is not understood. Write az://CONTAINER/PREFIX.");
    }

    private static TextSourceException Failed(string source, Exception exception) => new(TextSourceProblem.NotFound,
        $"'{source}' cannot be read: {(exception as RequestFailedException)?.Status} {(exception as RequestFailedException)?.ErrorCode ?? exception.Message.Split('\n')[0]}. "
        + "Check the container's name and that the connection string 'sources' may read it.", exception);
}
