using System.Net;
using Azure.Core.Pipeline;
using Azure.Storage.Blobs;

namespace LlmPipeline.Storage.Tests;

/// <summary>A blob service that cannot be reached, or does not answer; in place of the network is a handler.</summary>
public sealed class AzureOutOfReachTests
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(20);

    [Theory]
    [InlineData("properties", 0)]
    [InlineData("properties", 1)]
    [InlineData("read", 1)]
    [InlineData("write", 1)]
    [InlineData("list", 1)]
    [InlineData("delete", 1)]
    [InlineData("lease", 1)]
    public async Task SilenceIsAnIOExceptionThatNamesTheStoreAndTheRemedy(string call, int retries)
    {
        using var service = new SilentService();
        var store = Open(service, retries, TimeSpan.FromMilliseconds(50));
        var error = await Assert.ThrowsAsync<IOException>(() => CallAsync(store, call).WaitAsync(Limit));
        Assert.StartsWith("The blob store at https://account.invalid is out of reach (", error.Message, StringComparison.Ordinal);
        Assert.Contains("ConnectionStrings__storage", error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("secret", error.Message, StringComparison.Ordinal);
        Assert.True(retries == 0 ? error.InnerException is OperationCanceledException : error.InnerException is AggregateException, $"{error}");
    }

    [Fact]
    public async Task ARefusedConnectionIsAnIOException()
    {
        using var service = new SilentService { Failure = new HttpRequestException("Connection refused") };
        var error = await Assert.ThrowsAsync<IOException>(() => CallAsync(Open(service, 1, Limit), "properties").WaitAsync(Limit));
        Assert.Contains("(Connection refused)", error.Message, StringComparison.Ordinal);
        Assert.IsType<AggregateException>(error.InnerException);
    }

    [Fact]
    public async Task ACallerWhoGoesIsCancelled()
    {
        using var service = new SilentService();
        using var gone = new CancellationTokenSource();
        var call = Open(service, 1, Limit).TryGetPropertiesAsync("a/b", gone.Token);
        await service.Asked.WaitAsync(Limit);
        await gone.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => call.WaitAsync(Limit));
    }

    [Fact]
    public async Task ALongReadThatBreaksOffIsAnIOException()
    {
        await using var stream = new AzureReadStream(new BrokenStream(), new Uri("https://account.invalid/llm/large?sig=secret"));
        var error = await Assert.ThrowsAsync<IOException>(() => stream.CopyToAsync(Stream.Null));
        Assert.Contains("https://account.invalid is out of reach (The answer broke off).", error.Message, StringComparison.Ordinal);
        Assert.IsType<IOException>(Record.Exception(() => stream.Read(new byte[10], 0, 10)));
    }

    private static AzureBlobStore Open(SilentService service, int retries, TimeSpan patience)
    {
        var options = AzureBlobStore.ClientOptions();
        options.Retry.MaxRetries = retries;
        options.Retry.Delay = TimeSpan.FromMilliseconds(1);
        options.Retry.NetworkTimeout = patience;
        options.Transport = new HttpClientTransport(service);
        return new AzureBlobStore(new BlobContainerClient(new Uri("https://account.invalid/llm?sig=secret"), options));
    }

    private static async Task CallAsync(AzureBlobStore store, string call)
    {
        switch (call)
        {
            case "properties":
                await store.TryGetPropertiesAsync("a/b");
                break;
            case "read":
                await store.OpenReadAsync("a/b");
                break;
            case "write":
                await store.WriteTextAsync("a/b", "text");
                break;
            case "list":
                await store.ListAsync("a/").CountAsync();
                break;
            case "delete":
                await store.DeleteAsync("a/b");
                break;
            default:
                await store.TryAcquireLeaseAsync("a", TimeSpan.FromSeconds(15));
                break;
        }
    }

    /// <summary>Makes the container, and answers nothing else.</summary>
    private sealed class SilentService : HttpMessageHandler
    {
        private readonly TaskCompletionSource _asked = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public Exception? Failure { get; init; }

        public Task Asked => _asked.Task;

        protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            if (request.Method == HttpMethod.Put && request.RequestUri!.Query.Contains("restype=container", StringComparison.Ordinal))
            {
                return new HttpResponseMessage(HttpStatusCode.Created) { Content = new ByteArrayContent([]) };
            }

            _asked.TrySetResult();
            await Task.Delay(Failure is null ? Timeout.InfiniteTimeSpan : TimeSpan.Zero, cancellationToken);
            throw Failure!;
        }
    }

    private sealed class BrokenStream : MemoryStream
    {
        private static AggregateException Failure => new("Retry failed after 6 tries", new IOException("The answer broke off."));

        public override int Read(byte[] buffer, int offset, int count) => throw Failure;

        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default) => ValueTask.FromException<int>(Failure);
    }
}
