using System.Net;
using System.Net.Http.Headers;

namespace LlmPipeline.Text.Sources;

/// <summary>Finds files on servers: <c>https://</c>, <c>hf://</c>, <c>az://</c>.</summary>
internal sealed class RemoteSources(SourceOptions options)
{
    private readonly RemoteHttp _http = new(options);

    /// <summary>Whether a source, or the path of a file, is an address.</summary>
    public static bool IsRemote(string source) =>
        source.StartsWith("https://", StringComparison.OrdinalIgnoreCase) || source.StartsWith("http://", StringComparison.OrdinalIgnoreCase)
        || source.StartsWith(HuggingFace.Scheme, StringComparison.Ordinal) || source.StartsWith(AzureBlobs.Scheme, StringComparison.Ordinal);

    /// <summary>The files of a source, in ordinal order.</summary>
    /// <exception cref="TextSourceException">There is none, or it cannot be reached.</exception>
    public async Task<IReadOnlyList<SourceFile>> FindAsync(string source, CancellationToken cancellationToken)
    {
        if (source.StartsWith(HuggingFace.Scheme, StringComparison.Ordinal))
        {
            return await new HuggingFace(options, _http).FindAsync(source, cancellationToken);
        }

        if (source.StartsWith(AzureBlobs.Scheme, StringComparison.Ordinal))
        {
            return await new AzureBlobs(options).FindAsync(source, cancellationToken);
        }

        return Uri.TryCreate(source, UriKind.Absolute, out var address)
            ? [await _http.RetryAsync($"Asking for '{RemoteHttp.Name(address)}'", token => DescribeAsync(source, address, token), () => 0, cancellationToken)]
            : throw new TextSourceException(TextSourceProblem.NotFound, $"'{source}' is not a valid address. Give one like https://HOST/PATH.jsonl.");
    }

    // Asks for the first byte: HEAD is refused by servers of signed addresses.
    private async ValueTask<SourceFile> DescribeAsync(string source, Uri address, CancellationToken cancellationToken)
    {
        using var response = await _http.GetAsync(address, null, r => r.Headers.Range = new RangeHeaderValue(0, 0), cancellationToken);
        var length = response.StatusCode == HttpStatusCode.OK ? response.Content.Headers.ContentLength : response.Content.Headers.ContentRange?.Length;
        var name = Path.GetFileName(Uri.UnescapeDataString(address.AbsolutePath));
        var stated = response.Content.Headers.ContentDisposition is { } disposition ? (disposition.FileNameStar ?? disposition.FileName ?? "").Trim('"') : "";
        if ((SourceFile.FormatOf(name) ?? SourceFile.FormatOf(stated)) is not var (format, compression))
        {
            throw new TextSourceException(TextSourceProblem.NotFound, $"'{RemoteHttp.Name(address)}' is not of a known format. Files end in {SourceFile.KnownEndings}.");
        }

        // Not what a download makes of it, but what lies on the server.
        compression = response.Content.Headers.ContentEncoding.FirstOrDefault() switch
        {
            "gzip" or "x-gzip" => SourceCompression.Gzip,
            "zstd" => SourceCompression.Zstandard,
            _ => compression,
        };
        var identity = Identity(response);
        return length is { } bytes && identity is not null
            ? new SourceFile(source, bytes, default, format, compression, identity)
            : throw new TextSourceException(TextSourceProblem.NotFound,
                $"The server of '{RemoteHttp.Name(address)}' states {(length is null ? "no length" : "neither an entity tag nor a time of change")}, so that a dataset of it could not be made again. Download the file and name its path.");
    }

    /// <summary>What a response says of a file's content.</summary>
    public static string? Identity(HttpResponseMessage response) =>
        response.Headers.ETag is { } tag ? $"etag:{tag}"
        : response.Content.Headers.LastModified is { } modified ? $"modified:{modified.UtcTicks}"
        : null;
}
