using System.Collections.Concurrent;
using System.Globalization;
using System.Runtime.CompilerServices;

namespace LlmPipeline.Storage;

/// <summary>How records of one kind are kept.</summary>
/// <typeparam name="T">The record; never changed once stored: updates work on a copy.</typeparam>
public sealed record RecordFormat<T>
{
    /// <summary>First segment of names: "runs", "datasets", "evaluations".</summary>
    public required string Collection { get; init; }

    /// <summary>File within <c>{collection}/{id}/</c>, for example <c>run.json</c>.</summary>
    public required string File { get; init; }

    /// <summary>To JSON.</summary>
    public required Func<T, string> Serialize { get; init; }

    /// <summary>From JSON; throws on anything else.</summary>
    public required Func<string, T> Parse { get; init; }

    /// <summary>A deep copy.</summary>
    public required Func<T, T> Copy { get; init; }

    /// <summary>Orders lists, newest first.</summary>
    public required Func<T, DateTimeOffset> CreateTime { get; init; }

    /// <summary>The state; watchers see every change of it.</summary>
    public required Func<T, object> State { get; init; }

    /// <summary>Whether a watch ends after this record.</summary>
    public required Func<T, bool> IsTerminal { get; init; }
}

/// <summary>One version of a record.</summary>
/// <param name="Sequence">Grows with every change, over restarts of the service as well.</param>
/// <param name="Value">The record; do not change it.</param>
public sealed record RecordVersion<T>(long Sequence, T Value);

/// <summary>
/// Durable records with create, update, pages and watch: what runs, datasets and evaluations have in common.
/// One process owns a collection; it reads the records back when it starts.
/// </summary>
public sealed class RecordStore<T>(IBlobStore store, RecordFormat<T> format, TimeProvider? timeProvider = null) where T : class
{
    private readonly TimeProvider _time = timeProvider ?? TimeProvider.System;
    private readonly ConcurrentDictionary<string, Entry> _entries = new(StringComparer.Ordinal);

    /// <summary>Reads all records. Call once, before anything else. Returns the ids of records that could not be read, with the cause.</summary>
    public async Task<IReadOnlyList<(string Id, Exception Cause)>> LoadAsync(CancellationToken cancellationToken = default)
    {
        var unreadable = new List<(string, Exception)>();
        await foreach (var blob in store.ListAsync(format.Collection + "/", cancellationToken))
        {
            if (blob.Name.Split('/') is not [_, var id, var file] || file != format.File)
            {
                continue;
            }

            try
            {
                if (await store.TryReadTextAsync(blob.Name, cancellationToken) is (var text, var eTag))
                {
                    _entries[id] = new Entry(new RecordVersion<T>(NextSequence(0), format.Parse(text))) { ETag = eTag };
                }
            }
            catch (Exception exception) when (exception is not OperationCanceledException)
            {
                unreadable.Add((id, exception));
            }
        }

        return unreadable;
    }

    /// <summary>All records, newest first.</summary>
    public IReadOnlyList<RecordVersion<T>> All =>
        [.. _entries.OrderByDescending(e => format.CreateTime(e.Value.Current.Value)).ThenBy(e => e.Key, StringComparer.Ordinal).Select(e => e.Value.Current)];

    /// <summary>One record, or null.</summary>
    public RecordVersion<T>? TryGet(string id) => _entries.TryGetValue(id, out var entry) ? entry.Current : null;

    /// <summary>Stores a new record, durably.</summary>
    /// <returns>False when the id is taken; the present record is returned then, too.</returns>
    public async Task<(bool Created, RecordVersion<T> Record)> TryCreateAsync(string id, T value, CancellationToken cancellationToken = default)
    {
        ResourceName.RequireId(id, $"The id in {format.Collection}");
        if (TryGet(id) is { } present)
        {
            return (false, present);
        }

        string eTag;
        try
        {
            eTag = await store.WriteTextAsync(NameOf(id), format.Serialize(value), BlobCondition.NotExists, cancellationToken);
        }
        catch (BlobConditionException)
        {
            // Written by a call that runs beside this one, or by an owner before this one.
            var (text, foundETag) = await store.TryReadTextAsync(NameOf(id), cancellationToken) ?? throw new BlobNotFoundException(NameOf(id));
            return (false, _entries.GetOrAdd(id, _ => new Entry(new RecordVersion<T>(NextSequence(0), format.Parse(text))) { ETag = foundETag }).Current);
        }

        var entry = new Entry(new RecordVersion<T>(NextSequence(0), value)) { ETag = eTag };
        return (true, _entries.GetOrAdd(id, entry).Current);
    }

    /// <summary>Changes a record and tells its watchers.</summary>
    /// <param name="id">Its id.</param>
    /// <param name="change">Changes the copy it is given; false leaves the record as it is.</param>
    /// <param name="durable">Written to storage before watchers see it; false for progress that may be lost.</param>
    /// <param name="cancellationToken">Ends the attempt; the record is then unchanged.</param>
    /// <exception cref="BlobConditionException">Another process wrote the record: this one is no longer its owner.</exception>
    public async Task<RecordVersion<T>> UpdateAsync(string id, Func<T, bool> change, bool durable = true, CancellationToken cancellationToken = default)
    {
        var entry = _entries.TryGetValue(id, out var found) ? found : throw new BlobNotFoundException(NameOf(id));
        await entry.Gate.WaitAsync(cancellationToken);
        try
        {
            var value = format.Copy(entry.Current.Value);
            if (!change(value))
            {
                return entry.Current;
            }

            if (durable)
            {
                entry.ETag = await store.WriteTextAsync(NameOf(id), format.Serialize(value), BlobCondition.Matches(entry.ETag), cancellationToken);
            }

            var version = new RecordVersion<T>(NextSequence(entry.Current.Sequence), value);
            entry.Publish(version, stateChanged: !format.State(value).Equals(format.State(entry.Current.Value)));
            return version;
        }
        finally
        {
            entry.Gate.Release();
        }
    }

    /// <summary>A page of records, newest first.</summary>
    /// <param name="pageSize">0 means 50; more than 1000 means 1000.</param>
    /// <param name="pageToken">Token of the previous page; empty for the first.</param>
    /// <exception cref="ArgumentException">The size is negative or the token is not one of ours.</exception>
    public (IReadOnlyList<T> Records, string NextPageToken) List(int pageSize, string pageToken) =>
        Page.Of([.. All.Select(v => v.Value)], pageSize, pageToken);

    /// <summary>
    /// Streams a record: first its present version (or, after a given sequence, the states missed since), then each change.
    /// Progress may be coalesced, states never. Ends after a terminal record. Repeats the newest version after 15 quiet seconds.
    /// </summary>
    public async IAsyncEnumerable<RecordVersion<T>> WatchAsync(string id, long afterSequence = 0, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        var entry = _entries.TryGetValue(id, out var found) ? found : throw new BlobNotFoundException(NameOf(id));
        var sent = afterSequence;
        var first = true;
        while (true)
        {
            var (pending, changed) = entry.After(sent, statesSince: first ? afterSequence : sent, presentOnly: first && afterSequence == 0);
            if (first && pending.Count == 0)
            {
                pending = format.IsTerminal(entry.Current.Value) || afterSequence == 0 ? [entry.Current] : [];
            }

            first = false;
            foreach (var version in pending)
            {
                sent = version.Sequence;
                yield return version;
                if (format.IsTerminal(version.Value) && version.Sequence == entry.Current.Sequence)
                {
                    yield break;
                }
            }

            if (pending.Count > 0)
            {
                continue;
            }

            try
            {
                await changed.WaitAsync(TimeSpan.FromSeconds(15), _time, cancellationToken);
                continue;
            }
            catch (TimeoutException)
            {
            }

            yield return entry.Current;
            sent = Math.Max(sent, entry.Current.Sequence);
        }
    }

    private string NameOf(string id) => $"{format.Collection}/{id}/{format.File}";

    // Milliseconds since 1970, so that numbers grow over restarts without being stored.
    private long NextSequence(long previous) => Math.Max(previous + 1, _time.GetUtcNow().ToUnixTimeMilliseconds());

    private sealed class Entry(RecordVersion<T> current)
    {
        private readonly Lock _lock = new();
        private readonly List<RecordVersion<T>> _states = [current];
        private TaskCompletionSource _changed = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public SemaphoreSlim Gate { get; } = new(1);

        public string ETag { get; set; } = "";

        public RecordVersion<T> Current { get; private set; } = current;

        public void Publish(RecordVersion<T> version, bool stateChanged)
        {
            TaskCompletionSource changed;
            lock (_lock)
            {
                Current = version;
                if (stateChanged)
                {
                    _states.Add(version);
                }

                changed = _changed;
                _changed = new(TaskCreationOptions.RunContinuationsAsynchronously);
            }

            changed.SetResult();
        }

        /// <summary>States entered after a sequence number, then the newest version.</summary>
        public (List<RecordVersion<T>> Versions, Task Changed) After(long sent, long statesSince, bool presentOnly)
        {
            lock (_lock)
            {
                if (presentOnly)
                {
                    return ([Current], _changed.Task);
                }

                var versions = _states.Where(s => s.Sequence > statesSince).ToList();
                if (Current.Sequence > sent && (versions.Count == 0 || versions[^1].Sequence < Current.Sequence))
                {
                    versions.Add(Current);
                }

                return (versions, _changed.Task);
            }
        }
    }
}

/// <summary>Pages over a list.</summary>
public static class Page
{
    /// <summary>Cuts one page out of a list.</summary>
    /// <param name="items">The whole list, in order.</param>
    /// <param name="pageSize">0 means 50; more than 1000 means 1000.</param>
    /// <param name="pageToken">Token of the previous page; empty for the first.</param>
    /// <exception cref="ArgumentException">The size is negative or the token is not one of ours.</exception>
    public static (IReadOnlyList<TItem> Items, string NextPageToken) Of<TItem>(IReadOnlyList<TItem> items, int pageSize, string pageToken)
    {
        if (pageSize < 0)
        {
            throw new ArgumentException($"page_size is {pageSize}; use 0 for the default of 50, or a positive number.");
        }

        var offset = 0;
        if (pageToken.Length > 0 && (!int.TryParse(pageToken, NumberStyles.None, CultureInfo.InvariantCulture, out offset) || offset > items.Count))
        {
            throw new ArgumentException("page_token is not a next_page_token of an earlier page.");
        }

        var size = pageSize == 0 ? 50 : Math.Min(pageSize, 1000);
        var next = Math.Min(offset + size, items.Count);
        return ([.. items.Skip(offset).Take(size)], next < items.Count ? next.ToString(CultureInfo.InvariantCulture) : "");
    }
}
