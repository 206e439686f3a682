using System.Globalization;
using LlmPipeline.Storage;

namespace LlmPipeline.Gateway.Catalogue;

/// <summary>How versions are found, brought into memory and dropped.</summary>
internal sealed partial class ModelCatalogue
{
    private async Task DiscoverAsync(CancellationToken cancellationToken)
    {
        _lastLook = time.GetTimestamp();
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

            foreach (var gone in _unreadable.Keys.Where(name => !seen.Contains(name)).ToArray())
            {
                _unreadable.Remove(gone);
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

    private static bool IsPermanent(Exception exception) => exception is CorruptDirectoryException or InvalidDataException;

    private static bool TryParse(string name, out string model, out int version)
    {
        (model, version) = ("", 0);
        if (name.Split('/') is not ["models", var id, "versions", var number] || !ResourceName.IsId(id)
            || !int.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out version))
        {
            return false;
        }

        model = id;
        return true;
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
}
