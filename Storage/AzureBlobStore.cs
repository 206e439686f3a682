using System.Runtime.CompilerServices;
using Azure;
using Azure.Core;
using Azure.Storage.Blobs;
using Azure.Storage.Blobs.Models;
using Azure.Storage.Blobs.Specialized;

namespace LlmPipeline.Storage;

/// <summary>Blobs in an Azure Blob container, which is made on first use where there is none.</summary>
/// <remarks>
/// A blob of up to <see cref="AzureBlobWriter.BlockSize"/> is one request, a larger one is uncommitted blocks until the
/// block list commits; both are atomic. Leases are taken on companion blobs under <c>.leases/</c>, so that the leased name
/// need not exist and stays writable.
/// </remarks>
public sealed class AzureBlobStore(BlobContainerClient container) : IBlobStore
{
    private const string LeasePrefix = ".leases/";

    // One request serves a read up to this length, so that it never meets a change halfway.
    private const int SingleReadLength = 4 * 1024 * 1024;

    private readonly Lock _lock = new();
    private Task? _created;

    /// <summary>
    /// Retries for at most about a minute a call: 4 retries from 0.4 s on, 30 s for an attempt (a block of 8 MiB needs
    /// 2.2 Mbit/s). A service that is out of reach is an <see cref="IOException"/>.
    /// </summary>
    public static BlobClientOptions ClientOptions()
    {
        var options = new BlobClientOptions();
        options.Retry.Mode = RetryMode.Exponential;
        options.Retry.MaxRetries = 4;
        options.Retry.Delay = TimeSpan.FromSeconds(0.4);
        options.Retry.MaxDelay = TimeSpan.FromSeconds(8);
        options.Retry.NetworkTimeout = TimeSpan.FromSeconds(30);
        options.AddPolicy(new AzureOutOfReachPolicy(), HttpPipelinePosition.PerCall);
        return options;
    }

    /// <inheritdoc/>
    public async Task<Stream> OpenReadAsync(string name, CancellationToken cancellationToken = default)
    {
        var blob = await BlobAsync(name, cancellationToken);
        try
        {
            var length = (await blob.GetPropertiesAsync(cancellationToken: cancellationToken)).Value.ContentLength;
            return length <= SingleReadLength
                ? (await blob.DownloadContentAsync(cancellationToken)).Value.Content.ToStream()
                : new AzureReadStream(
                    await blob.OpenReadAsync(new BlobOpenReadOptions(allowModifications: false) { BufferSize = SingleReadLength }, cancellationToken), blob.Uri);
        }
        catch (RequestFailedException exception) when (exception.Status == 404)
        {
            throw new BlobNotFoundException(name, exception);
        }
        catch (Exception exception) when (AzureOutOfReach.Is(exception, cancellationToken))
        {
            throw AzureOutOfReach.Error(exception, blob.Uri, cancellationToken);
        }
    }

    /// <inheritdoc/>
    public async Task<BlobWriter> CreateAsync(string name, BlobCondition condition = default, CancellationToken cancellationToken = default) =>
        new AzureBlobWriter(await BlobAsync(name, cancellationToken), name, condition);

    /// <inheritdoc/>
    public async Task<BlobProperties?> TryGetPropertiesAsync(string name, CancellationToken cancellationToken = default)
    {
        var blob = await BlobAsync(name, cancellationToken);
        try
        {
            var found = (await blob.GetPropertiesAsync(cancellationToken: cancellationToken)).Value;
            return new BlobProperties(name, found.ContentLength, TextOf(found.ETag), found.LastModified);
        }
        catch (RequestFailedException exception) when (exception.Status == 404)
        {
            return null;
        }
    }

    /// <inheritdoc/>
    public async IAsyncEnumerable<BlobProperties> ListAsync(string prefix, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        BlobName.ValidatePrefix(prefix);
        await EnsureContainerAsync(cancellationToken);
        await foreach (var blob in container.GetBlobsAsync(new GetBlobsOptions { Prefix = prefix }, cancellationToken))
        {
            if (BlobName.IsValid(blob.Name))
            {
                yield return new BlobProperties(
                    blob.Name,
                    blob.Properties.ContentLength ?? 0,
                    blob.Properties.ETag is { } eTag ? TextOf(eTag) : "",
                    blob.Properties.LastModified ?? DateTimeOffset.UnixEpoch);
            }
        }
    }

    /// <inheritdoc/>
    public async Task<bool> DeleteAsync(string name, CancellationToken cancellationToken = default) =>
        await (await BlobAsync(name, cancellationToken)).DeleteIfExistsAsync(DeleteSnapshotsOption.IncludeSnapshots, cancellationToken: cancellationToken);

    /// <inheritdoc/>
    public async Task<IBlobLease?> TryAcquireLeaseAsync(string name, TimeSpan duration, CancellationToken cancellationToken = default)
    {
        BlobName.Validate(name);
        LeaseDuration.Require(duration);
        await EnsureContainerAsync(cancellationToken);
        var blob = container.GetBlockBlobClient(LeasePrefix + name);
        var lease = blob.GetBlobLeaseClient();
        for (var attempt = 0; ; attempt++)
        {
            try
            {
                await lease.AcquireAsync(duration, cancellationToken: cancellationToken);
                return new Lease(lease);
            }
            catch (RequestFailedException exception) when (exception.Status == 409)
            {
                return null;
            }
            catch (RequestFailedException exception) when (exception.Status == 404 && attempt == 0)
            {
                await CreateCompanionAsync(blob, cancellationToken);
            }
        }
    }

    /// <inheritdoc/>
    public string? TryGetLocalPath(string name)
    {
        BlobName.Validate(name);
        return null;
    }

    // The service quotes versions in headers, not in lists.
    internal static string TextOf(ETag eTag) => eTag.ToString().Trim('"');

    private static async Task CreateCompanionAsync(BlockBlobClient blob, CancellationToken cancellationToken)
    {
        try
        {
            await blob.UploadAsync(Stream.Null, new BlobUploadOptions { Conditions = new BlobRequestConditions { IfNoneMatch = ETag.All } }, cancellationToken);
        }
        catch (RequestFailedException exception) when (exception.Status is 409 or 412)
        {
            // Another one made it first.
        }
    }

    private async Task<BlockBlobClient> BlobAsync(string name, CancellationToken cancellationToken)
    {
        BlobName.Validate(name);
        await EnsureContainerAsync(cancellationToken);
        return container.GetBlockBlobClient(name);
    }

    private Task EnsureContainerAsync(CancellationToken cancellationToken)
    {
        lock (_lock)
        {
            if (_created is null or { IsFaulted: true } or { IsCanceled: true })
            {
                _created = CreateAsync();
            }

            return _created.WaitAsync(cancellationToken);
        }

        async Task CreateAsync()
        {
            try
            {
                await container.CreateIfNotExistsAsync(cancellationToken: CancellationToken.None);
            }
            catch (RequestFailedException exception) when (exception.Status == 403)
            {
                // These credentials may use a container, not make one. Where it does not exist, the next call says so.
            }
        }
    }

    private sealed class Lease(BlobLeaseClient lease) : IBlobLease
    {
        public async Task<bool> RenewAsync(CancellationToken cancellationToken = default)
        {
            try
            {
                await lease.RenewAsync(cancellationToken: cancellationToken);
                return true;
            }
            catch (RequestFailedException exception) when (exception.Status is 404 or 409 or 412)
            {
                return false;
            }
        }

        public async ValueTask DisposeAsync()
        {
            try
            {
                await lease.ReleaseAsync();
            }
            catch (Exception exception) when (exception is RequestFailedException or IOException)
            {
                // Lost already, or the service is away: the lease ends by itself.
            }
        }
    }
}
