using LlmPipeline.Storage;

namespace LlmPipeline.Preprocessor;

/// <summary>
/// How replicas learn of work without reading all records: each dataset that is not yet in a terminal state has an empty blob
/// <c>unfinished/{dataset}</c>.
/// </summary>
internal sealed class UnfinishedDatasets(IBlobStore store)
{
    private const string Prefix = "unfinished/";

    private TaskCompletionSource _added = new(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <summary>Ends when this process added a dataset after this was asked for.</summary>
    public Task Added => Volatile.Read(ref _added).Task;

    /// <summary>Lists a dataset.</summary>
    public async Task AddAsync(string id, CancellationToken cancellationToken)
    {
        await store.WriteTextAsync(Prefix + id, "", default, cancellationToken);
        Interlocked.Exchange(ref _added, new(TaskCreationOptions.RunContinuationsAsynchronously)).SetResult();
    }

    /// <summary>Takes a dataset off the list.</summary>
    public Task RemoveAsync(string id, CancellationToken cancellationToken) => store.DeleteAsync(Prefix + id, cancellationToken);

    /// <summary>Ids of the listed datasets.</summary>
    public async Task<IReadOnlyList<string>> ListAsync(CancellationToken cancellationToken)
    {
        var ids = new List<string>();
        await foreach (var blob in store.ListAsync(Prefix, cancellationToken))
        {
            var id = blob.Name[Prefix.Length..];
            if (ResourceName.IsId(id))
            {
                ids.Add(id);
            }
        }

        return ids;
    }
}
