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
/// A process that owns a collection reads the records back when it starts. Where several processes share one, each record has one
/// writer at a time, and the others look for its changes with <see cref="RefreshAsync"/>.
/// </summary>
public sealed class RecordStore<T>(IBlobStore store, RecordFormat<T> format, TimeProvider? timeProvider = null) where T : class
{
    private static readonly TimeSpan QuietTime = TimeSpan.FromSeconds(15);

    private readonly TimeProvider _time = timeProvider ?? TimeProvider.System;
    private readonly ConcurrentDictionary<string, Entry> _entries = new(StringComparer.Ordinal);

    /// <summary>
    /// Reads all records, or those that other processes created or changed since the last time. Returns the ids of records that could
    /// not be read, with the cause.
    /// </summary>
    public async Task<IReadOnlyList<(string Id, Exception Cause)>> LoadAsync(CancellationToken cancellationToken = default)
    {
        var unreadable = new List<(string, Exception)>();
        await foreach (var blob in store.ListAsync(format.Collection + "/", cancellationToken))
        {
            if (blob.Name.Split('/') is not [_, var id, var file] || file != format.File || !ResourceName.IsId(id)
                || (_entries.TryGetValue(id, out var entry) && entry.ETag == blob.ETag))
            {
                continue;
            }

            try
            {
                await RefreshAsync(id, cancellationToken);
            }
            catch (Exception exception) when (exception is not OperationCanceledException)
            {
                unreadable.Add((id, exception));
            }
        }

        return unreadable;
    }

    /// <summary>Reads a record again where another process wrote it, and tells its watchers. Null when there is none.</summary>
    public async Task<RecordVersion<T>?> RefreshAsync(string id, CancellationToken cancellationToken = default)
    {
        if (!_entries.TryGetValue(id, out var entry))
        {
            if (await store.TryReadTextAsync(NameOf(id), cancellationToken) is not (var text, var eTag))
            {
                return null;
            }

            entry = _entries.GetOrAdd(id, new Entry(new RecordVersion<T>(NextSequence(0), format.Parse(text))) { ETag = eTag });
        }

        await entry.Gate.WaitAsync(cancellationToken);
        try
        {
            if (await store.TryGetPropertiesAsync(NameOf(id), cancellationToken) is { } found && found.ETag != entry.ETag
                && await store.TryReadTextAsync(NameOf(id), cancellationToken) is (var text, var eTag))
            {
                var value = format.Parse(text);
                (entry.ETag, entry.Doubtful) = (eTag, null);
                entry.Publish(new RecordVersion<T>(NextSequence(entry.Current.Sequence), value), stateChanged: !format.State(value).Equals(format.State(entry.Current.Value)));
            }

            return entry.Current;
        }
        finally
        {
            entry.Gate.Release();
        }
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

        var entry = new Entry(new RecordVersion<T>(NextSequence(0), format.Copy(value))) { ETag = eTag };
        return (true, _entries.GetOrAdd(id, entry).Current);
    }

    /// <summary>Changes a record and tells its watchers.</summary>
    /// <param name="id">Its id.</param>
    /// <param name="change">Changes the copy it is given; false leaves the record as it is.</param>
    /// <param name="durable">Written to storage before watchers see it; false for progress that may be lost.</param>
    /// <param name="cancellationToken">Ends the wait for other changes; a write that has begun is finished.</param>
    /// <exception cref="BlobNotFoundException">There is no such record.</exception>
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
                await WriteAsync(id, entry, format.Serialize(value));
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
    /// Progress may be coalesced, states never, but for those before the service's last start: these are not kept. Ends
    /// after a terminal record. Repeats the newest version after 15 quiet seconds.
    /// </summary>
    /// <exception cref="BlobNotFoundException">There is no such record.</exception>
    public async IAsyncEnumerable<RecordVersion<T>> WatchAsync(string id, long afterSequence = 0, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        var entry = _entries.TryGetValue(id, out var found) ? found : throw new BlobNotFoundException(NameOf(id));
        var current = entry.Current;
        // A number from the future comes from a process whose clock was ahead: the client starts anew.
        var sent = afterSequence > current.Sequence ? 0 : afterSequence;
        var repeat = format.IsTerminal(current.Value);
        while (true)
        {
            var (pending, newest, changed) = entry.After(sent);
            if (pending.Count == 0 && repeat)
            {
                pending = [newest];
            }

            foreach (var version in pending)
            {
                yield return version;
                sent = version.Sequence;
            }

            repeat = false;
            if (pending is [.., var last])
            {
                if (format.IsTerminal(last.Value) && last.Sequence == entry.Current.Sequence)
                {
                    yield break;
                }

                continue;
            }

            try
            {
                await changed.WaitAsync(QuietTime, _time, cancellationToken);
            }
            catch (TimeoutException)
            {
                repeat = true;
            }
        }
    }

    // After a failed write it is not known whether it took effect: what is stored then decides.
    private async Task WriteAsync(string id, Entry entry, string text)
    {
        if (entry.Doubtful is { } doubtful)
        {
            var stored = await store.TryReadTextAsync(NameOf(id)) ?? throw new BlobConditionException(NameOf(id));
            if (stored.ETag != entry.ETag && stored.Text != doubtful)
            {
                throw new BlobConditionException(NameOf(id));
            }

            (entry.ETag, entry.Doubtful) = (stored.ETag, null);
        }

        try
        {
            entry.ETag = await store.WriteTextAsync(NameOf(id), text, BlobCondition.Matches(entry.ETag), CancellationToken.None);
        }
        catch (Exception exception) when (exception is not BlobConditionException)
        {
            entry.Doubtful = text;
            throw;
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

        /// <summary>Text of a write that failed and may yet have taken effect.</summary>
        public string? Doubtful { get; set; }

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

        /// <summary>States entered after a sequence number, then the newest version; after 0, the newest version alone.</summary>
        public (IReadOnlyList<RecordVersion<T>> Versions, RecordVersion<T> Newest, Task Changed) After(long sequence)
        {
            lock (_lock)
            {
                var versions = sequence == 0 ? [] : _states.Where(s => s.Sequence > sequence).ToList();
                if (Current.Sequence > sequence && (versions.Count == 0 || versions[^1].Sequence < Current.Sequence))
                {
                    versions.Add(Current);
                }

                return (versions, Current, _changed.Task);
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
