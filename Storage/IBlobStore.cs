namespace LlmPipeline.Storage;

/// <summary>Bytes under names: a local folder or an Azure Blob container. Safe for use from many threads.</summary>
/// <remarks>
/// Names are relative, with <c>/</c> between segments, for example <c>runs/r1/run.json</c>; <see cref="BlobName.Validate"/>
/// runs before a name touches the disk or the network. A reader never sees half a blob.
/// </remarks>
public interface IBlobStore
{
    /// <summary>Opens a committed blob for reading; the stream seeks.</summary>
    /// <exception cref="BlobNotFoundException">There is no such blob.</exception>
    Task<Stream> OpenReadAsync(string name, CancellationToken cancellationToken = default);

    /// <summary>Begins a new blob, or a new content of an existing one. Nothing is visible before <see cref="BlobWriter.CommitAsync"/>.</summary>
    Task<BlobWriter> CreateAsync(string name, BlobCondition condition = default, CancellationToken cancellationToken = default);

    /// <summary>Length and version of a blob, or null when there is none.</summary>
    Task<BlobProperties?> TryGetPropertiesAsync(string name, CancellationToken cancellationToken = default);

    /// <summary>Lists committed blobs whose name starts with <paramref name="prefix"/>, in ordinal order of names.</summary>
    IAsyncEnumerable<BlobProperties> ListAsync(string prefix, CancellationToken cancellationToken = default);

    /// <summary>Deletes a blob; false when there was none.</summary>
    Task<bool> DeleteAsync(string name, CancellationToken cancellationToken = default);

    /// <summary>Takes an exclusive lease on a name; null when another holder has it.</summary>
    /// <param name="name">The name to lease; the blob need not exist.</param>
    /// <param name="duration">15 to 60 seconds; the lease ends by itself when it is not renewed for as long.</param>
    /// <param name="cancellationToken">Ends the attempt.</param>
    Task<IBlobLease?> TryAcquireLeaseAsync(string name, TimeSpan duration, CancellationToken cancellationToken = default);

    /// <summary>Path of a committed blob on the local disk, or null when the store is not a folder or there is no such blob.</summary>
    string? TryGetLocalPath(string name);
}

/// <summary>Length and version of a blob.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Length">Bytes.</param>
/// <param name="ETag">Changes with every commit.</param>
/// <param name="LastModified">Time of the commit.</param>
public sealed record BlobProperties(string Name, long Length, string ETag, DateTimeOffset LastModified);

/// <summary>When a write may happen. The default value puts no condition.</summary>
/// <param name="IfMatch">The write fails unless the blob has this version.</param>
/// <param name="IfNoneMatch">The write fails when the blob exists.</param>
public readonly record struct BlobCondition(string? IfMatch, bool IfNoneMatch)
{
    /// <summary>Only when the blob does not exist yet.</summary>
    public static BlobCondition NotExists => new(null, true);

    /// <summary>Only when the blob is still at this version.</summary>
    public static BlobCondition Matches(string eTag) => new(eTag, false);
}

/// <summary>A blob being written. Disposing it without a commit leaves nothing behind.</summary>
public abstract class BlobWriter : IAsyncDisposable
{
    /// <summary>Where the bytes go.</summary>
    public abstract Stream Stream { get; }

    /// <summary>Makes the bytes visible and durable, in one step, and returns the new version.</summary>
    /// <exception cref="BlobConditionException">The condition given to <see cref="IBlobStore.CreateAsync"/> does not hold.</exception>
    public abstract Task<string> CommitAsync(CancellationToken cancellationToken = default);

    /// <inheritdoc/>
    public abstract ValueTask DisposeAsync();
}

/// <summary>An exclusive lease; disposing releases it.</summary>
public interface IBlobLease : IAsyncDisposable
{
    /// <summary>Extends the lease by its duration; false when it was lost.</summary>
    Task<bool> RenewAsync(CancellationToken cancellationToken = default);
}

/// <summary>A blob that was asked for does not exist.</summary>
public sealed class BlobNotFoundException(string name, Exception? inner = null)
    : IOException($"'{name}' is not in storage.", inner)
{
    /// <summary>The name that was asked for.</summary>
    public string Name { get; } = name;
}

/// <summary>Somebody else wrote the blob in the meantime.</summary>
public sealed class BlobConditionException(string name, Exception? inner = null)
    : IOException($"'{name}' was changed or created by another writer.", inner)
{
    /// <summary>The name that was written.</summary>
    public string Name { get; } = name;
}
