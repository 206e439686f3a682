using System.Net;
using System.Security.Cryptography;
using System.Text;
using LlmPipeline.Fakes;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Text.Tests.Sources;

public sealed class RemoteSourceTests : IDisposable
{
    private const string Tag = "\"v1\"";
    private static readonly byte[] Content = Encoding.UTF8.GetBytes(string.Concat(Enumerable.Range(0, 40_000).Select(i => $"{{\"text\":\"document {i}\"}}\n")));

    private readonly TemporaryFolder _cache = new();

    public void Dispose() => _cache.Dispose();

    private SourceOptions Options => new() { CacheFolder = Path.Combine(_cache.Path, "cache"), RetryDelay = TimeSpan.FromMilliseconds(1), HuggingFaceToken = "secret" };

    [Fact]
    public async Task FileIsDownloadedOnceAndReadInUnits()
    {
        using var server = new RemoteServer(r => RemoteAnswer.Of(r, Content, Tag));
        for (var i = 0; i < 2; i++)
        {
            var (documents, _) = await SourceReading.ReadAsync([server.Address + "/a/b.jsonl?x=1"], options: Options, unitBytes: 200_000);
            Assert.Equal(40_000, documents.Count);
            Assert.Equal("document 39999", documents[^1]);
        }

        Assert.Single(server.Requests, r => !r.IsProbe);
    }

    [Fact]
    public async Task BrokenDownloadGoesOnWhereItBrokeOff()
    {
        using var server = new RemoteServer(r => RemoteAnswer.Of(r, Content, Tag) with { CutAfter = r.IsProbe ? 1 : 300_000 });
        var progress = new List<DownloadProgress>();
        var options = Options with { Progress = new Recorder(progress) };
        var (documents, _) = await SourceReading.ReadAsync([server.Address + "/b.jsonl"], options: options);
        Assert.Equal(40_000, documents.Count);
        var downloads = server.Requests.Where(r => !r.IsProbe).ToList();
        Assert.Equal((Content.Length + 299_999) / 300_000, downloads.Count);
        Assert.All(downloads.Skip(1), r => Assert.Equal(Tag, r.Headers["If-Range"]));
        Assert.All(downloads.Skip(1), r => Assert.True(r.From > 0));
        Assert.Equal(Content.Length, progress[^1].Bytes);
        Assert.Equal(progress.Select(p => p.Bytes).Order(), progress.Select(p => p.Bytes));
    }

    [Fact]
    public async Task DownloadGoesOnInTheNextProcess()
    {
        var fail = true;
        using var server = new RemoteServer(r => fail && r.From > 0 ? new RemoteAnswer(404, []) : RemoteAnswer.Of(r, Content, Tag) with { CutAfter = fail && !r.IsProbe ? 500_000 : int.MaxValue });
        var files = await SourceFiles.FindAsync([server.Address + "/b.jsonl"], Options);
        await Assert.ThrowsAsync<TextSourceException>(() => SourceReading.ReadAsync(files, options: Options));
        fail = false;
        Assert.Equal(40_000, (await SourceReading.ReadAsync(files, options: Options)).Documents.Count);
        Assert.Equal(500_000, server.Requests.Last().From);
    }

    [Fact]
    public async Task CacheThatCannotBeWrittenIsAnErrorAndNotAWait()
    {
        using var server = new RemoteServer(r => RemoteAnswer.Of(r, Content, Tag));
        var file = (await SourceFiles.FindAsync([server.Address + "/b.jsonl"], Options)).Single();
        var name = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes($"{file.Path}\n{file.Identity}")));
        Directory.CreateDirectory(Options.CacheFolder);
        File.CreateSymbolicLink(Path.Combine(Options.CacheFolder, name + ".lock"), Path.Combine(_cache.Path, "no such folder", "lock"));
        await Assert.ThrowsAnyAsync<IOException>(() => SourceReading.ReadAsync([file], options: Options).WaitAsync(TimeSpan.FromSeconds(30)));
    }

    [Fact]
    public async Task FileThatChangesWhileItIsDownloadedIsNamed()
    {
        var tag = Tag;
        using var server = new RemoteServer(r =>
        {
            var answer = RemoteAnswer.Of(r, Content, tag) with { CutAfter = r.IsProbe ? 1 : 1000 };
            tag = r.IsProbe ? tag : "\"v2\"";
            return answer;
        });
        var exception = await Assert.ThrowsAsync<TextSourceException>(() => SourceReading.ReadAsync([server.Address + "/b.jsonl"], options: Options));
        Assert.Equal(TextSourceProblem.Changed, exception.Problem);
        Assert.Contains($"'{server.Address}/b.jsonl' changed after the dataset was created", exception.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(-1)]
    public async Task ServerThatLiesAboutTheLengthIsRefused(int more)
    {
        using var server = new RemoteServer(r => r.IsProbe
            ? new RemoteAnswer(206, [0], $"ETag: {Tag}", $"Content-Range: bytes 0-0/{Content.Length + more}")
            : new RemoteAnswer(200, Content, $"ETag: {Tag}") { DeclaredLength = more > 0 ? Content.Length + more : null });
        var exception = await Assert.ThrowsAsync<TextSourceException>(() => SourceReading.ReadAsync([server.Address + "/b.jsonl"], options: Options));
        Assert.Contains(server.Address, exception.Message, StringComparison.Ordinal);
        Assert.DoesNotContain(Directory.GetFiles(Options.CacheFolder), f => !f.EndsWith(".part", StringComparison.Ordinal) && !f.EndsWith(".lock", StringComparison.Ordinal));
    }

    [Fact]
    public async Task DownloadWithAnotherHashThanTheServerStatesIsRefused()
    {
        var digest = Convert.ToBase64String(SHA256.HashData(Content));
        foreach (var (header, isGood) in new[] { ($"Repr-Digest: sha-256=:{digest}:", true), ($"Digest: SHA-256={digest}", true), ($"Repr-Digest: sha-256=:{Convert.ToBase64String(new byte[32])}:", false), ($"Content-MD5: {Convert.ToBase64String(new byte[16])}", false) })
        {
            using var server = new RemoteServer(r => RemoteAnswer.Of(r, Content, Tag, r.IsProbe ? [] : [header]));
            var reading = SourceReading.ReadAsync([server.Address + "/b.jsonl"], options: Options);
            if (isGood)
            {
                Assert.Equal(40_000, (await reading).Documents.Count);
            }
            else
            {
                Assert.Contains("hash is", (await Assert.ThrowsAsync<TextSourceException>(() => reading)).Message, StringComparison.Ordinal);
            }
        }
    }

    [Fact]
    public async Task FailuresThatMayPassAreTriedAgain()
    {
        var statuses = new Queue<int>([429, 500, 503, 502, 200, 500, 429, 503]);
        using var server = new RemoteServer(r => statuses.TryDequeue(out var status) && status != 200 ? new RemoteAnswer(status, [], "Retry-After: 0") : RemoteAnswer.Of(r, Content, Tag));
        Assert.Equal(40_000, (await SourceReading.ReadAsync([server.Address + "/b.jsonl"], options: Options)).Documents.Count);
        Assert.Equal(9, server.Requests.Count);
    }

    [Theory]
    [InlineData(404, "answers 404 (X). Check the address.", 1)]
    [InlineData(401, "answers 401 (X). It needs access", 1)]
    [InlineData(500, "answers 500 (X). Try again later", 6)]
    public async Task FailuresNameAddressStatusAndRemedy(int status, string message, int requests)
    {
        using var server = new RemoteServer(_ => new RemoteAnswer(status, []));
        var exception = await Assert.ThrowsAsync<TextSourceException>(() => SourceFiles.FindAsync([server.Address + "/b.jsonl?key=secret"], Options));
        Assert.Contains($"'{server.Address}/b.jsonl' {message}", exception.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("secret", exception.Message, StringComparison.Ordinal);
        Assert.Equal(requests, server.Requests.Count);
    }

    [Theory]
    [InlineData("http://example.org/a.txt", "is not an https address")]
    [InlineData("https://redirects.example/a.txt", "redirects from https to http ('http://127.0.0.1/a.txt'), which is not followed")]
    [InlineData("https://circles.example/a.txt", "redirects more than 10 times")]
    [InlineData("https://plain.example/a.bin", "is not of a known format")]
    [InlineData("https://plain.example/a.txt", "states neither an entity tag nor a time of change")]
    [InlineData("hf://models/a/b/c.txt", "is not understood. Write hf://datasets/OWNER/NAME/PATH")]
    [InlineData("hf://datasets/a/../../b", "is not understood")]
    [InlineData("az://container/a.txt", "needs the connection string 'sources'")]
    public async Task UnsafeAndUnusableAddressesAreRefused(string source, string message)
    {
        var options = Options with
        {
            Http = new Answers(r => r.RequestUri!.Host switch
            {
                "redirects.example" => new HttpResponseMessage(HttpStatusCode.Found) { Headers = { Location = new Uri("http://127.0.0.1/a.txt") } },
                "circles.example" => new HttpResponseMessage(HttpStatusCode.Found) { Headers = { Location = new Uri("/a.txt", UriKind.Relative) } },
                _ => new HttpResponseMessage(HttpStatusCode.OK) { Content = new ByteArrayContent([1]) },
            }),
        };
        var exception = await Assert.ThrowsAsync<TextSourceException>(() => SourceFiles.FindAsync([source], options));
        Assert.Equal(TextSourceProblem.NotFound, exception.Problem);
        Assert.Contains(message, exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task HubDataSetsAreListedInPagesAndCheckedByHash()
    {
        var small = Encoding.UTF8.GetBytes("text\nsmall\n");
        using var sha1 = IncrementalHash.CreateHash(HashAlgorithmName.SHA1);
        sha1.AppendData([.. Encoding.ASCII.GetBytes($"blob {small.Length}\0"), .. small]);
        var git = Convert.ToHexStringLower(sha1.GetHashAndReset());
        var sha = Convert.ToHexStringLower(SHA256.HashData(Content));
        RemoteServer? server = null;
        server = new RemoteServer(r => r.Path switch
        {
            "/api/datasets/o/n/tree/refs%2Fconvert%2Fparquet?recursive=true" => new RemoteAnswer(200,
                Encoding.UTF8.GetBytes($"[{{\"type\":\"directory\",\"path\":\"d\",\"oid\":\"0\"}},{{\"type\":\"file\",\"path\":\"d/b 1.jsonl\",\"size\":{Content.Length},\"oid\":\"0\",\"lfs\":{{\"oid\":\"{sha}\"}}}}]"),
                $"Link: <{server!.Address}/page2>; rel=\"next\""),
            "/page2" => new RemoteAnswer(200, Encoding.UTF8.GetBytes($"[{{\"type\":\"file\",\"path\":\"d/a.csv\",\"size\":{small.Length},\"oid\":\"{git}\"}},{{\"type\":\"file\",\"path\":\"x.md\",\"size\":1,\"oid\":\"0\"}}]")),
            "/datasets/o/n/resolve/refs%2Fconvert%2Fparquet/d/b%201.jsonl" => new RemoteAnswer(302, [], $"Location: http://localhost:{new Uri(server!.Address).Port}/content"),
            "/content" => RemoteAnswer.Of(r, Content, "\"other\""),
            "/datasets/o/n/resolve/refs%2Fconvert%2Fparquet/d/a.csv" => RemoteAnswer.Of(r, small, "\"x\""),
            _ => new RemoteAnswer(404, []),
        });
        using var owned = server;
        var options = Options with { HuggingFaceEndpoint = server.Address };
        var (documents, _) = await SourceReading.ReadAsync(["hf://datasets/o/n@refs/convert/parquet/d/*"], options: options);
        Assert.Equal(40_001, documents.Count);
        Assert.Equal("small", documents[0]);
        Assert.All(server.Requests, r => Assert.Equal(r.Path != "/content", r.Headers.ContainsKey("Authorization")));

        // Another content under the same name is no longer the data set that was listed.
        var files = await SourceFiles.FindAsync(["hf://datasets/o/n@refs/convert/parquet/d/a.csv"], options);
        small[5] ^= 1;
        var exception = await Assert.ThrowsAsync<TextSourceException>(() => SourceReading.ReadAsync(files, options: options with { CacheFolder = _cache.Path + "/other" }));
        Assert.Contains("its git hash is ", exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task NothingAServerSaysBecomesAPath()
    {
        using var server = new RemoteServer(r => RemoteAnswer.Of(r, Content, "\"../../../x\"", "Content-Disposition: attachment; filename=\"../../../../evil.jsonl\""));
        await SourceReading.ReadAsync([server.Address + "/..%2F..%2Fup"], options: Options);
        Assert.Equal([Options.CacheFolder], Directory.GetFileSystemEntries(_cache.Path));
        Assert.All(Directory.GetFiles(Options.CacheFolder), f => Assert.Matches("^[0-9a-f]{64}(\\.lock)?$", Path.GetFileName(f)));
    }

    [Fact]
    public async Task IdentityIsPartOfTheFingerprint()
    {
        var tag = Tag;
        using var server = new RemoteServer(r => RemoteAnswer.Of(r, Content, tag));
        var before = SourceFile.Fingerprint(await SourceFiles.FindAsync([server.Address + "/b.jsonl"], Options));
        Assert.Equal(before, SourceFile.Fingerprint(await SourceFiles.FindAsync([server.Address + "/b.jsonl"], Options)));
        tag = "\"v2\"";
        Assert.NotEqual(before, SourceFile.Fingerprint(await SourceFiles.FindAsync([server.Address + "/b.jsonl"], Options)));
    }

    [Fact]
    public async Task DownloadCanBeCancelled()
    {
        using var stop = new CancellationTokenSource();
        using var server = new RemoteServer(r =>
        {
            if (!r.IsProbe)
            {
                stop.Cancel();
            }

            return RemoteAnswer.Of(r, Content, Tag) with { CutAfter = r.IsProbe ? 1 : 10 };
        });
        var files = await SourceFiles.FindAsync([server.Address + "/b.jsonl"], Options);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => new RemoteContent(Options).FetchAsync(files[0], stop.Token).WaitAsync(SourceReading.Patience));
    }

    private sealed class Recorder(List<DownloadProgress> all) : IProgress<DownloadProgress>
    {
        public void Report(DownloadProgress value) => all.Add(value);
    }

    private sealed class Answers(Func<HttpRequestMessage, HttpResponseMessage> answer) : HttpMessageHandler
    {
        protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken) => Task.FromResult(answer(request));
    }
}
