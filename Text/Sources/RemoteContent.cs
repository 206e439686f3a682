using System.Collections.Concurrent;
using System.Net;
using System.Net.Http.Headers;
using System.Security.Cryptography;
using System.Text;
using LlmPipeline.Storage;

namespace LlmPipeline.Text.Sources;

/// <summary>
/// Keeps the content of remote files in the cache folder. A download goes on where it broke off, in this process or the next; a file
/// appears under its name once its length and, where the server states one, its hash are right. Names are hashes, so that nothing a
/// server says becomes a path.
/// </summary>
internal sealed class RemoteContent(SourceOptions options)
{
    private const int BufferBytes = 1 << 17;
    private static readonly TimeSpan LockPoll = TimeSpan.FromMilliseconds(200);
    private static readonly ConcurrentDictionary<string, SemaphoreSlim> Locks = new();

    private readonly RemoteHttp _http = new(options);
    private readonly AzureBlobs _azure = new(options);

    /// <summary>Path of the content of a file, downloaded first where needed.</summary>
    /// <exception cref="TextSourceException">It cannot be had, or is not what was found when the dataset was created.</exception>
    public async Task<string> FetchAsync(SourceFile file, CancellationToken cancellationToken)
    {
        if (!RemoteSources.IsRemote(file.Path))
        {
            return file.Path;
        }

        Directory.CreateDirectory(options.CacheFolder);
        var path = Path.Combine(options.CacheFolder, Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes($"{file.Path}\n{file.Identity}"))));
        if (IsWhole(path, file))
        {
            return path;
        }

        // One download a file, in this process and, by the lock of the part, among all.
        var gate = Locks.GetOrAdd(path, _ => new SemaphoreSlim(1));
        await gate.WaitAsync(cancellationToken);
        try
        {
            await using var claim = await LockAsync(path + ".lock", cancellationToken);
            if (!IsWhole(path, file))
            {
                await DownloadAsync(file, path, cancellationToken);
            }

            return path;
        }
        finally
        {
            gate.Release();
        }
    }

    private static bool IsWhole(string path, SourceFile file) => new FileInfo(path) is { Exists: true } info && info.Length == file.Length;

    private static async Task<FileStream> LockAsync(string path, CancellationToken cancellationToken)
    {
        while (true)
        {
            if (FileLock.TryTake(path) is { } file)
            {
                return file;
            }

            // Another process downloads it.
            await Task.Delay(LockPoll, cancellationToken);
        }
    }

    private async Task DownloadAsync(SourceFile file, string path, CancellationToken cancellationToken)
    {
        var part = path + ".part";
        for (var isRetry = false; ; isRetry = true)
        {
            var resumed = File.Exists(part) && new FileInfo(part).Length > 0;
            string? stated = null;
            await _http.RetryAsync($"Downloading '{file.Path}'", async token =>
            {
                stated = await ContinueAsync(file, part, token) ?? stated;
                return true;
            }, () => File.Exists(part) ? new FileInfo(part).Length : 0, cancellationToken);
            if (await MatchesAsync(file, part, stated, cancellationToken) is not { } difference)
            {
                File.Move(part, path, overwrite: true);
                return;
            }

            File.Delete(part);
            if (!resumed || isRetry)
            {
                throw new TextSourceException(TextSourceProblem.Changed, $"'{file.Path}' was downloaded, but {difference}. It may have changed: create the dataset again.");
            }
        }
    }

    // Appends to the part until it is whole. Gives the hash that the server states of all of the file.
    private async Task<string?> ContinueAsync(SourceFile file, string part, CancellationToken cancellationToken)
    {
        await using var target = new FileStream(part, FileMode.OpenOrCreate, FileAccess.Write, FileShare.Read, 1);
        if (target.Length > file.Length)
        {
            target.SetLength(0);
        }

        target.Position = target.Length;
        if (target.Length == file.Length)
        {
            return null;
        }

        using var response = file.Path.StartsWith(AzureBlobs.Scheme, StringComparison.Ordinal) ? null : await RequestAsync(file, target, cancellationToken);
        await using var body = response is null
            ? await _azure.OpenAsync(file, target.Position, cancellationToken)
            : await response.Content.ReadAsStreamAsync(cancellationToken);
        await CopyAsync(file, body, target, cancellationToken);
        return response is null ? null : StatedHash(response);
    }

    private async Task<HttpResponseMessage> RequestAsync(SourceFile file, FileStream target, CancellationToken cancellationToken)
    {
        var isHub = file.Path.StartsWith(HuggingFace.Scheme, StringComparison.Ordinal);
        var address = isHub ? HuggingFace.AddressOf(file, options) : new Uri(file.Path);
        var response = await _http.GetAsync(address, isHub ? options.HuggingFaceToken : null, request =>
        {
            if (target.Position > 0)
            {
                request.Headers.Range = new RangeHeaderValue(target.Position, null);
                request.Headers.IfRange = IfRange(file);
            }
        }, cancellationToken);

        // The hub's files are checked by their hash; what its content servers call them says nothing.
        if (!isHub && RemoteSources.Identity(response) is { } identity && identity != file.Identity)
        {
            response.Dispose();
            throw new TextSourceException(TextSourceProblem.Changed, $"'{file.Path}' changed after the dataset was created: it is {identity} and was {file.Identity}. Create it again.");
        }

        var range = response.Content.Headers.ContentRange;
        var isRest = response.StatusCode == HttpStatusCode.PartialContent && range?.From == target.Position;
        if (!isRest)
        {
            target.SetLength(0);
            target.Position = 0;
        }

        if (response.StatusCode == HttpStatusCode.OK || isRest)
        {
            var whole = isRest ? range!.Length ?? file.Length : response.Content.Headers.ContentLength ?? file.Length;
            if (whole != file.Length)
            {
                response.Dispose();
                throw new TextSourceException(TextSourceProblem.Changed, $"'{file.Path}' has {whole} bytes and had {file.Length} when the dataset was created. Create it again.");
            }

            return response;
        }

        // Another part than the one asked for, or none: all of it next time.
        var status = (int)response.StatusCode;
        response.Dispose();
        throw new TransientSourceException($"'{RemoteHttp.Name(address)}' answers {status} with a range that was not asked for.");
    }

    private async Task CopyAsync(SourceFile file, Stream body, FileStream target, CancellationToken cancellationToken)
    {
        var buffer = new byte[BufferBytes];
        using var idle = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        while (true)
        {
            int read;
            try
            {
                idle.CancelAfter(options.IdleTimeout);
                read = await body.ReadAsync(buffer, idle.Token);
            }
            catch (Exception exception) when (exception is IOException or Azure.RequestFailedException or AggregateException || (exception is OperationCanceledException && !cancellationToken.IsCancellationRequested))
            {
                throw new TransientSourceException($"'{file.Path}' broke off after {target.Position} of {file.Length} bytes: {exception.Message}", null, exception);
            }

            if (read == 0)
            {
                break;
            }

            if (target.Position + read > file.Length)
            {
                throw new TextSourceException(TextSourceProblem.Changed, $"'{file.Path}' sends more than the {file.Length} bytes that it had when the dataset was created. Create it again.");
            }

            await target.WriteAsync(buffer.AsMemory(0, read), cancellationToken);
            options.Progress?.Report(new DownloadProgress(file.Path, target.Position, file.Length));
        }

        if (target.Position < file.Length)
        {
            throw new TransientSourceException($"'{file.Path}' ended after {target.Position} of {file.Length} bytes.");
        }
    }

    private static RangeConditionHeaderValue? IfRange(SourceFile file) => file.Identity switch
    {
        ['e', 't', 'a', 'g', ':', .. var tag] when EntityTagHeaderValue.TryParse(tag, out var value) && !value.IsWeak => new RangeConditionHeaderValue(value),
        ['m', 'o', 'd', 'i', 'f', 'i', 'e', 'd', ':', .. var ticks] when long.TryParse(ticks, out var value) => new RangeConditionHeaderValue(new DateTimeOffset(value, TimeSpan.Zero)),
        _ => null,
    };

    // RFC 9530 and its forerunner RFC 3230 state a hash of the whole file; Content-MD5 one of what is sent.
    private static string? StatedHash(HttpResponseMessage response)
    {
        foreach (var name in (string[])["Repr-Digest", "Digest"])
        {
            var value = response.Headers.TryGetValues(name, out var values) || response.Content.Headers.TryGetValues(name, out values) ? string.Join(",", values) : "";
            var at = value.IndexOf("sha-256=", StringComparison.OrdinalIgnoreCase);
            if (at >= 0)
            {
                var base64 = value[(at + 8)..].Split(',')[0].Trim().Trim(':');
                var hash = new byte[32];
                return Convert.TryFromBase64String(base64, hash, out var count) && count == hash.Length ? $"sha256:{Convert.ToHexStringLower(hash)}" : null;
            }
        }

        return response.StatusCode == HttpStatusCode.OK && response.Content.Headers.ContentMD5 is { Length: 16 } md5 ? $"md5:{Convert.ToHexStringLower(md5)}" : null;
    }

    // What is wrong with a download; null for nothing.
    private static async Task<string?> MatchesAsync(SourceFile file, string path, string? stated, CancellationToken cancellationToken)
    {
        foreach (var expected in file.Identity!.Split(' ').Append(stated))
        {
            var (kind, hash) = expected?.Split(':', 2) is [var k, var h] ? (k, h) : ("", "");
            if (kind is not ("sha256" or "md5" or "git"))
            {
                continue;
            }

            // Git's hash and MD5 are the servers' choice; they guard against accidents.
            await using var content = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, BufferBytes);
            using var algorithm = IncrementalHash.CreateHash(kind == "sha256" ? HashAlgorithmName.SHA256 : kind == "md5" ? HashAlgorithmName.MD5 : HashAlgorithmName.SHA1);
            if (kind == "git")
            {
                algorithm.AppendData(Encoding.ASCII.GetBytes($"blob {content.Length}\0"));
            }

            var buffer = new byte[BufferBytes];
            for (var read = 0; (read = await content.ReadAsync(buffer, cancellationToken)) > 0;)
            {
                algorithm.AppendData(buffer, 0, read);
            }

            var actual = Convert.ToHexStringLower(algorithm.GetHashAndReset());
            if (!string.Equals(actual, hash, StringComparison.OrdinalIgnoreCase))
            {
                return $"its {kind} hash is {actual} instead of {hash}";
            }
        }

        return null;
    }
}
