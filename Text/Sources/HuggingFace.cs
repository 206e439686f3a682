using System.Text.Json;
using System.Text.RegularExpressions;

namespace LlmPipeline.Text.Sources;

/// <summary>Data sets of the Hugging Face hub: <c>hf://datasets/OWNER/NAME[@REVISION]/PATH</c>, where PATH is a file, a folder or a glob.</summary>
internal sealed partial class HuggingFace(SourceOptions options, RemoteHttp http)
{
    public const string Scheme = "hf://";

    // Of the listing; 1,000 entries are some 300 KB.
    private const int MaxPageBytes = 64 << 20;

    /// <summary>The files that a source names, with the hashes that the hub states.</summary>
    public async Task<IReadOnlyList<SourceFile>> FindAsync(string source, CancellationToken cancellationToken)
    {
        var (repository, revision, pattern) = Parse(source);
        var glob = PathGlob.IsGlob(pattern) ? PathGlob.OfRelative(pattern) : null;
        var folder = pattern.TrimEnd('/');
        var files = new List<SourceFile>();
        Uri? page = new($"{options.HuggingFaceEndpoint.TrimEnd('/')}/api/datasets/{repository}/tree/{Uri.EscapeDataString(revision)}?recursive=true");
        while (page is not null)
        {
            var address = page;
            var (json, next) = await http.RetryAsync($"Listing '{source}'", token => ReadPageAsync(address, token), () => 0, cancellationToken);
            page = next is null || next.Host == address.Host ? next
                : throw new TextSourceException(TextSourceProblem.Invalid, $"The listing of '{source}' goes on at another server, '{next.Host}', which is not followed.");
            using (json)
            {
                foreach (var entry in json.RootElement.EnumerateArray())
                {
                    var path = entry.GetProperty("path").GetString()!;
                    var isMeant = glob?.Matches(path, relative: true) ?? (folder.Length == 0 || path == folder || path.StartsWith(folder + "/", StringComparison.Ordinal));
                    if (entry.GetProperty("type").GetString() == "file" && isMeant && SourceFile.FormatOf(path) is var (format, compression))
                    {
                        var identity = entry.TryGetProperty("lfs", out var lfs) && lfs.ValueKind == JsonValueKind.Object
                            ? $"sha256:{lfs.GetProperty("oid").GetString()}"
                            : $"git:{entry.GetProperty("oid").GetString()}";
                        files.Add(new SourceFile($"{Scheme}datasets/{repository}@{revision}/{path}", entry.GetProperty("size").GetInt64(), default, format, compression, identity));
                    }
                }
            }
        }

        files.Sort((a, b) => string.CompareOrdinal(a.Path, b.Path));
        return files.Count > 0 ? files : throw new TextSourceException(TextSourceProblem.NotFound, $"Source '{source}' names no file that ends in {SourceFile.KnownEndings}.");
    }

    /// <summary>Where the content of a file that was found lies.</summary>
    public static Uri AddressOf(SourceFile file, SourceOptions options)
    {
        var (repository, revision, path) = Parse(file.Path);
        return new Uri($"{options.HuggingFaceEndpoint.TrimEnd('/')}/datasets/{repository}/resolve/{Uri.EscapeDataString(revision)}/{string.Join('/', path.Split('/').Select(Uri.EscapeDataString))}");
    }

    private static (string Repository, string Revision, string Pattern) Parse(string source)
    {
        var match = SourcePattern().Match(source);
        return match.Success
            ? (match.Groups["repository"].Value, match.Groups["revision"] is { Success: true } revision ? revision.Value : "main", match.Groups["path"].Value)
            : throw new TextSourceException(TextSourceProblem.NotFound, $"'{source}' is not understood. Write hf://datasets/OWNER/NAME/PATH or hf://datasets/OWNER/NAME@REVISION/PATH; PATH may be a glob.");
    }

    private async ValueTask<(JsonDocument Json, Uri? Next)> ReadPageAsync(Uri address, CancellationToken cancellationToken)
    {
        using var response = await http.GetAsync(address, options.HuggingFaceToken, null, cancellationToken);
        using var limited = new MemoryStream();
        await using var body = await response.Content.ReadAsStreamAsync(cancellationToken);
        var buffer = new byte[1 << 16];
        for (var read = 0; (read = await body.ReadAsync(buffer, cancellationToken)) > 0;)
        {
            limited.Write(buffer.AsSpan(0, read));
            if (limited.Length > MaxPageBytes)
            {
                throw new TextSourceException(TextSourceProblem.Invalid, $"'{RemoteHttp.Name(address)}' answers more than {MaxPageBytes >> 20} MiB. Is it a hub of data sets?");
            }
        }

        try
        {
            limited.Position = 0;
            var json = JsonDocument.Parse(limited);
            foreach (var entry in json.RootElement.EnumerateArray())
            {
                var isWhole = entry.GetProperty("path").GetString() is not null && entry.GetProperty("type").GetString() is not null
                    && (entry.GetProperty("type").GetString() != "file" || (entry.GetProperty("size").GetInt64() >= 0 && entry.GetProperty("oid").GetString() is not null));
                if (!isWhole)
                {
                    throw new InvalidOperationException("An entry lacks its path, size or oid.");
                }
            }

            var link = response.Headers.TryGetValues("Link", out var links) ? LinkPattern().Match(string.Join(",", links)) : Match.Empty;
            return (json, link.Success ? new Uri(address, link.Groups[1].Value) : null);
        }
        catch (Exception exception) when (exception is JsonException or InvalidOperationException or KeyNotFoundException or FormatException)
        {
            throw new TextSourceException(TextSourceProblem.Invalid, $"'{RemoteHttp.Name(address)}' does not answer with a listing: {exception.Message} Is it a hub of data sets?", exception);
        }
    }

    [GeneratedRegex(@"^hf://datasets/(?<repository>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?<revision>refs/(?:convert|pr)/[\w.-]+|[^/]+))?(?:/(?<path>.*))?$", RegexOptions.CultureInvariant)]
    private static partial Regex SourcePattern();

    [GeneratedRegex("<([^>]+)>;\\s*rel=\"next\"", RegexOptions.CultureInvariant)]
    private static partial Regex LinkPattern();
}
