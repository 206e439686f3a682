using LlmPipeline.Storage;
using Microsoft.Extensions.Options;

namespace LlmPipeline.Gateway.Catalogue;

/// <summary>
/// The published models: looks for new versions in storage, loads the newest of each model, and goes on serving the version
/// before until the new one is warm. A version that cannot be loaded is logged and skipped.
/// </summary>
internal sealed partial class ModelCatalogue(
    IBlobStore store, ModelLoader loader, IOptions<GatewayOptions> options, TimeProvider time, ILogger<ModelCatalogue> logger)
    : BackgroundService
{
    private const string ManifestSuffix = "/manifest.json";
    private static readonly TimeSpan RetryDelay = TimeSpan.FromSeconds(10);

    private readonly Lock _lock = new();
    private readonly SemaphoreSlim _refreshing = new(1);
    private readonly SemaphoreSlim _loading = new(1);
    private readonly CancellationTokenSource _stopping = new();
    private readonly Dictionary<string, VersionEntry> _entries = new(StringComparer.Ordinal);
    private readonly Dictionary<string, (string ETag, string Cause)> _unreadable = new(StringComparer.Ordinal);
    private long _clock;

    /// <summary>Why storage could not be read at the last look; null when it could.</summary>
    public Exception? StorageFailure { get; private set; }

    /// <summary>Models in memory.</summary>
    public int LoadedCount
    {
        get
        {
            lock (_lock)
            {
                return _entries.Values.Count(e => e.Loaded is not null);
            }
        }
    }

    /// <summary>The version that each model serves, newest first.</summary>
    public IReadOnlyList<ModelVersion> List()
    {
        lock (_lock)
        {
            return
            [
                .. _entries.Values.GroupBy(e => e.Version.Model).Select(g => Served(g)?.Version).OfType<ModelVersion>()
                    .OrderByDescending(v => v.CreateTime).ThenBy(v => v.Name, StringComparer.Ordinal),
            ];
        }
    }

    /// <summary>A version by the name that a caller gave: {model}, models/{model} or models/{model}/versions/{version}; null when there is none.</summary>
    public ModelVersion? Find(string name)
    {
        lock (_lock)
        {
            return Resolve(name)?.Version;
        }
    }

    /// <summary>The model that a caller named, loaded now if need be. The caller releases it.</summary>
    /// <exception cref="GatewayException">There is no such model, or it cannot be loaded.</exception>
    public async Task<LoadedModel> AcquireAsync(string name, CancellationToken cancellationToken)
    {
        while (true)
        {
            VersionEntry? entry;
            lock (_lock)
            {
                entry = Resolve(name);
                if (entry?.Loaded is { } loaded)
                {
                    loaded.LastUsed = ++_clock;
                    return loaded.AddReference();
                }
            }

            if (entry is null)
            {
                throw NotFound(name);
            }

            // On failure the next turn finds the version before it, or none.
            await EnsureLoadedAsync(entry).WaitAsync(cancellationToken);
        }
    }

    /// <summary>Looks once for new, changed and deleted versions, and loads the newest ones.</summary>
    public async Task RefreshAsync(CancellationToken cancellationToken)
    {
        await _refreshing.WaitAsync(cancellationToken);
        try
        {
            await DiscoverAsync(cancellationToken);
            foreach (var entry in Wanted())
            {
                await EnsureLoadedAsync(entry).WaitAsync(cancellationToken);
            }
        }
        finally
        {
            _refreshing.Release();
        }
    }

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var timer = new PeriodicTimer(TimeSpan.FromSeconds(options.Value.PollSeconds), time);
        do
        {
            try
            {
                await RefreshAsync(stoppingToken);
                StorageFailure = null;
            }
            catch (Exception exception) when (!stoppingToken.IsCancellationRequested)
            {
                if (StorageFailure?.Message != exception.Message)
                {
                    StorageUnreadable(exception);
                }

                StorageFailure = exception;
            }
        }
        while (await timer.WaitForNextTickAsync(stoppingToken));
    }

    public override void Dispose()
    {
        _stopping.Cancel();
        lock (_lock)
        {
            foreach (var entry in _entries.Values)
            {
                Unload(entry);
            }
        }

        _refreshing.Dispose();
        base.Dispose();
    }

    private async Task DiscoverAsync(CancellationToken cancellationToken)
    {
        var seen = new HashSet<string>(StringComparer.Ordinal);
        await foreach (var blob in store.ListAsync("models/", cancellationToken))
        {
            if (!blob.Name.EndsWith(ManifestSuffix, StringComparison.Ordinal)
                || !TryParse(blob.Name[..^ManifestSuffix.Length], out var model, out var number))
            {
                continue;
            }

            var name = blob.Name[..^ManifestSuffix.Length];
            seen.Add(name);
            if (!IsKnown(name, blob.ETag))
            {
                await AddAsync(name, model, number, blob, cancellationToken);
            }
        }

        lock (_lock)
        {
            foreach (var gone in _entries.Keys.Where(name => !seen.Contains(name)).ToArray())
            {
                Unload(_entries[gone]);
                _entries.Remove(gone);
                VersionGone(gone);
            }
        }
    }

    private bool IsKnown(string name, string eTag)
    {
        lock (_lock)
        {
            return (_entries.TryGetValue(name, out var entry) && entry.Version.ETag == eTag)
                || (_unreadable.TryGetValue(name, out var bad) && bad.ETag == eTag);
        }
    }

    private async Task AddAsync(string name, string model, int number, BlobProperties blob, CancellationToken cancellationToken)
    {
        try
        {
            var version = await ModelVersion.ReadAsync(store, model, number, blob, cancellationToken);
            lock (_lock)
            {
                if (_entries.TryGetValue(name, out var old))
                {
                    Unload(old);
                }

                _entries[name] = new VersionEntry(version);
                _unreadable.Remove(name);
            }

            VersionFound(name);
        }
        catch (Exception exception) when (IsPermanent(exception))
        {
            lock (_lock)
            {
                _unreadable[name] = (blob.ETag, exception.Message);
            }

            VersionSkipped(name, exception);
        }
    }

    /// <summary>What to load without being asked: the newest version of every model, as long as there is room or it replaces one in memory.</summary>
    private List<VersionEntry> Wanted()
    {
        lock (_lock)
        {
            var room = options.Value.MaxLoadedModels - _entries.Values.Count(e => e.Loaded is not null);
            var wanted = new List<VersionEntry>();
            foreach (var versions in _entries.Values.GroupBy(e => e.Version.Model).OrderByDescending(g => g.Max(e => e.Version.CreateTime)))
            {
                var newest = versions.Where(IsUsable).MaxBy(e => e.Version.Version);
                if (newest is { WasLoaded: false } && (Served(versions)?.Loaded is not null || room-- > 0))
                {
                    wanted.Add(newest);
                }
            }

            return wanted;
        }
    }

    /// <summary>Loads a version unless it is loaded; one load at a time. A failure is kept in the entry, not thrown.</summary>
    private Task EnsureLoadedAsync(VersionEntry entry)
    {
        lock (_lock)
        {
            return entry.Loaded is not null ? Task.CompletedTask : entry.Loading ??= Task.Run(() => LoadAsync(entry));
        }
    }

    private async Task LoadAsync(VersionEntry entry)
    {
        await _loading.WaitAsync(_stopping.Token);
        try
        {
            var started = time.GetTimestamp();
            var loaded = await loader.LoadAsync(entry.Version, !entry.WasLoaded, _stopping.Token);
            Install(entry, loaded);
            VersionLoaded(entry.Version.Name, time.GetElapsedTime(started).TotalSeconds);
        }
        catch (Exception exception) when (!_stopping.IsCancellationRequested)
        {
            lock (_lock)
            {
                entry.Failure = exception;
                entry.RetryAt = IsPermanent(exception) ? null : time.GetUtcNow() + RetryDelay;
            }

            VersionSkipped(entry.Version.Name, exception);
        }
        finally
        {
            lock (_lock)
            {
                entry.Loading = null;
            }

            _loading.Release();
        }
    }

    private void Install(VersionEntry entry, LoadedModel loaded)
    {
        lock (_lock)
        {
            if (_stopping.IsCancellationRequested || !_entries.TryGetValue(entry.Version.Name, out var current) || current != entry)
            {
                loaded.Release();
                return;
            }

            entry.Version = loaded.Version;
            entry.Loaded = loaded;
            entry.WasLoaded = true;
            entry.Failure = null;
            loaded.LastUsed = ++_clock;

            // The version before has been replaced: nothing new is sent to it unless somebody names it.
            if (Served(entry.Version.Model) == entry)
            {
                foreach (var older in _entries.Values.Where(e => e.Version.Model == entry.Version.Model && e != entry))
                {
                    Unload(older);
                }
            }

            while (_entries.Values.Where(e => e.Loaded is not null).ToArray() is var all && all.Length > options.Value.MaxLoadedModels)
            {
                Unload(all.Where(e => e != entry).OrderByDescending(e => e.Loaded!.IsIdle).ThenBy(e => e.Loaded!.LastUsed).First());
            }
        }
    }

    private static void Unload(VersionEntry entry)
    {
        entry.Loaded?.Release();
        entry.Loaded = null;
    }

    private VersionEntry? Resolve(string name)
    {
        if (!name.StartsWith("models/", StringComparison.Ordinal))
        {
            return Served(name);
        }

        if (_entries.TryGetValue(name, out var entry))
        {
            return IsUsable(entry) ? entry : null;
        }

        return Served(name["models/".Length..]);
    }

    private VersionEntry? Served(string model) => Served(_entries.Values.Where(e => e.Version.Model == model));

    /// <summary>
    /// Of one model's versions: the newest that was loaded with success, as long as it lies in memory, so that a newer one
    /// takes over only when it is warm; otherwise the newest that has not failed.
    /// </summary>
    private VersionEntry? Served(IEnumerable<VersionEntry> versions)
    {
        var usable = versions.Where(IsUsable).ToArray();
        return usable.Where(e => e.WasLoaded).MaxBy(e => e.Version.Version) is { Loaded: not null } warm ? warm : usable.MaxBy(e => e.Version.Version);
    }

    private bool IsUsable(VersionEntry entry) => entry.Failure is null || (entry.RetryAt is { } retry && time.GetUtcNow() >= retry);

    private static bool IsPermanent(Exception exception) => exception is CorruptDirectoryException or InvalidDataException;

    private static bool TryParse(string name, out string model, out int version)
    {
        (model, version) = ("", 0);
        if (name.Split('/') is not ["models", var id, "versions", var number] || !ResourceName.IsId(id)
            || !int.TryParse(number, System.Globalization.NumberStyles.None, System.Globalization.CultureInfo.InvariantCulture, out version))
        {
            return false;
        }

        model = id;
        return true;
    }

    /// <summary>The error for a name that <see cref="Find"/> does not find; lists what there is.</summary>
    public GatewayException NotFound(string name)
    {
        var known = List();
        var printable = string.Concat(name.Take(80).Select(c => char.IsControl(c) ? '?' : c));
        var there = known.Count == 0
            ? "No model is published yet: train one first."
            : $"Published models: {string.Join(", ", known.Take(20).Select(v => v.Model))}{(known.Count > 20 ? ", ..." : "")}.";
        lock (_lock)
        {
            if (_entries.Values.FirstOrDefault(e => (e.Version.Model == name || e.Version.Name == name || $"models/{e.Version.Model}" == name) && e.Failure is not null) is { } broken)
            {
                return new GatewayException(GatewayErrorKind.Unavailable, $"{broken.Version.Name} cannot be loaded: {broken.Failure!.Message}", "model");
            }
        }

        return new GatewayException(GatewayErrorKind.ModelNotFound, $"The model '{printable}' does not exist. {there}", "model");
    }

    [LoggerMessage(4000, LogLevel.Information, "{Version} was published")]
    private partial void VersionFound(string version);

    [LoggerMessage(4001, LogLevel.Information, "{Version} is loaded and warm after {Seconds:F2} s: new requests go to it")]
    private partial void VersionLoaded(string version, double seconds);

    [LoggerMessage(4002, LogLevel.Error, "{Version} cannot be served: the version before goes on")]
    private partial void VersionSkipped(string version, Exception exception);

    [LoggerMessage(4003, LogLevel.Information, "{Version} was deleted: it is not served any more")]
    private partial void VersionGone(string version);

    [LoggerMessage(4004, LogLevel.Warning, "Storage cannot be read: models in memory go on, new ones are not seen")]
    private partial void StorageUnreadable(Exception exception);

    /// <summary>What is known of one version; guarded by the catalogue's lock.</summary>
    private sealed class VersionEntry(ModelVersion version)
    {
        public ModelVersion Version { get; set; } = version;

        public LoadedModel? Loaded { get; set; }

        /// <summary>It has been loaded once, so it may serve.</summary>
        public bool WasLoaded { get; set; }

        public Task? Loading { get; set; }

        /// <summary>Why the last load failed.</summary>
        public Exception? Failure { get; set; }

        /// <summary>When a load that failed may be tried again; null: never.</summary>
        public DateTimeOffset? RetryAt { get; set; }
    }
}
