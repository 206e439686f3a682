using LlmPipeline.Storage;

namespace LlmPipeline.Fakes;

/// <summary>A store in front of another, which fails as its hooks say.</summary>
public sealed class FaultyStore(IBlobStore inner) : IBlobStore
{
    /// <summary>Called with the name of a blob before it is committed.</summary>
    public Func<string, Task> Committing { get; set; } = _ => Task.CompletedTask;

    /// <summary>Called with the name of a blob before it is deleted.</summary>
    public Func<string, Task> Deleting { get; set; } = _ => Task.CompletedTask;

    /// <summary>Answers in place of the leases; null lets them be renewed.</summary>
    public Func<Task<bool>>? Renewing { get; set; }

    public Task<Stream> OpenReadAsync(string name, CancellationToken cancellationToken = default) => inner.OpenReadAsync(name, cancellationToken);

    public async Task<BlobWriter> CreateAsync(string name, BlobCondition condition = default, CancellationToken cancellationToken = default) =>
        new Writer(this, name, await inner.CreateAsync(name, condition, cancellationToken));

    public Task<BlobProperties?> TryGetPropertiesAsync(string name, CancellationToken cancellationToken = default) => inner.TryGetPropertiesAsync(name, cancellationToken);

    public IAsyncEnumerable<BlobProperties> ListAsync(string prefix, CancellationToken cancellationToken = default) => inner.ListAsync(prefix, cancellationToken);

    public async Task<bool> DeleteAsync(string name, CancellationToken cancellationToken = default)
    {
        await Deleting(name);
        return await inner.DeleteAsync(name, cancellationToken);
    }

    public async Task<IBlobLease?> TryAcquireLeaseAsync(string name, TimeSpan duration, CancellationToken cancellationToken = default) =>
        await inner.TryAcquireLeaseAsync(name, duration, cancellationToken) is { } lease ? new Lease(this, lease) : null;

    public string? TryGetLocalPath(string name) => inner.TryGetLocalPath(name);

    private sealed class Writer(FaultyStore store, string name, BlobWriter inner) : BlobWriter
    {
        public override Stream Stream => inner.Stream;

        public override async Task<string> CommitAsync(CancellationToken cancellationToken = default)
        {
            await store.Committing(name);
            return await inner.CommitAsync(cancellationToken);
        }

        public override ValueTask DisposeAsync() => inner.DisposeAsync();
    }

    private sealed class Lease(FaultyStore store, IBlobLease inner) : IBlobLease
    {
        public Task<bool> RenewAsync(CancellationToken cancellationToken = default) => store.Renewing?.Invoke() ?? inner.RenewAsync(cancellationToken);

        public ValueTask DisposeAsync() => inner.DisposeAsync();
    }
}
