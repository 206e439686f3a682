using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using LlmPipeline.Storage;

namespace LlmPipeline.Text.Building;

/// <summary>
/// What lies in storage while a dataset is made: <c>{dataset}/work/job.json</c> names the job, <c>{dataset}/work/{job}/</c> holds its
/// files. A job that was begun anew has another id, so that nobody who still works for the old one can disturb it.
/// </summary>
internal sealed class JobFolder
{
    private readonly IBlobStore _store;
    private readonly string _prefix;

    private JobFolder(IBlobStore store, JobDescription job)
    {
        (_store, Job) = (store, job);
        _prefix = $"{job.Target}/work/{job.Id}/";
    }

    /// <summary>What is made.</summary>
    public JobDescription Job { get; }

    /// <summary>Goes on with the job that lies there, or, where it makes something else, removes it and begins anew.</summary>
    public static async Task<JobFolder> BeginAsync(IBlobStore store, JobDescription wanted, CancellationToken cancellationToken)
    {
        var present = await TryReadJobAsync(store, wanted.Target, cancellationToken);
        if (present is not null && ToJson(present with { Id = wanted.Id }) == ToJson(wanted))
        {
            return new JobFolder(store, present);
        }

        await DeleteAsync(store, wanted.Target, cancellationToken);
        await store.WriteTextAsync(NameOf(wanted.Target), ToJson(wanted), default, cancellationToken);
        return new JobFolder(store, wanted);
    }

    /// <summary>The job that makes a dataset; null when there is none at present.</summary>
    public static async Task<JobFolder?> TryOpenAsync(IBlobStore store, string dataset, CancellationToken cancellationToken) =>
        await TryReadJobAsync(store, dataset, cancellationToken) is { } job ? new JobFolder(store, job) : null;

    /// <summary>Removes all that was kept while a dataset was made.</summary>
    public static async Task DeleteAsync(IBlobStore store, string dataset, CancellationToken cancellationToken)
    {
        // First what names the rest: nobody joins a job that is being removed.
        await store.DeleteAsync(NameOf(dataset), cancellationToken);
        var names = new List<string>();
        await foreach (var blob in store.ListAsync($"{dataset}/work/", cancellationToken))
        {
            names.Add(blob.Name);
        }

        foreach (var name in names)
        {
            await store.DeleteAsync(name, cancellationToken);
        }
    }

    public async Task<T?> TryReadAsync<T>(string file, JsonTypeInfo<T> json, CancellationToken cancellationToken) where T : class =>
        await _store.TryReadTextAsync(_prefix + file, cancellationToken) is (var text, _) ? JsonSerializer.Deserialize(text, json) : null;

    public async Task<T> ReadAsync<T>(string file, JsonTypeInfo<T> json, CancellationToken cancellationToken) where T : class =>
        await TryReadAsync(file, json, cancellationToken) ?? throw new BlobNotFoundException(_prefix + file);

    public Task WriteAsync<T>(string file, T value, JsonTypeInfo<T> json, CancellationToken cancellationToken) =>
        _store.WriteTextAsync(_prefix + file, JsonSerializer.Serialize(value, json), default, cancellationToken);

    public Task<Stream> OpenReadAsync(string file, CancellationToken cancellationToken) => _store.OpenReadAsync(_prefix + file, cancellationToken);

    public Task<BlobWriter> CreateAsync(string file, CancellationToken cancellationToken) => _store.CreateAsync(_prefix + file, default, cancellationToken);

    public Task DeleteAsync(string file, CancellationToken cancellationToken) => _store.DeleteAsync(_prefix + file, cancellationToken);

    public Task<HeldLease?> TryLeaseAsync(string name, CancellationToken cancellationToken) => HeldLease.TryTakeAsync(_store, _prefix + name, cancellationToken: cancellationToken);

    /// <summary>Names of files, in order, without the folder.</summary>
    public async IAsyncEnumerable<string> ListAsync(string prefix, [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancellationToken)
    {
        await foreach (var blob in _store.ListAsync(_prefix + prefix, cancellationToken))
        {
            yield return blob.Name[_prefix.Length..];
        }
    }

    private static string NameOf(string dataset) => $"{dataset}/work/job.json";

    private static string ToJson(JobDescription job) => JsonSerializer.Serialize(job, BuildJson.Default.JobDescription);

    private static async Task<JobDescription?> TryReadJobAsync(IBlobStore store, string dataset, CancellationToken cancellationToken) =>
        await store.TryReadTextAsync(NameOf(dataset), cancellationToken) is (var text, _) ? JsonSerializer.Deserialize(text, BuildJson.Default.JobDescription) : null;
}
