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
    private static readonly TimeSpan FirstLookTime = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan LookAgainInterval = TimeSpan.FromMilliseconds(200);

    private readonly Lock _lock = new();
    private readonly SemaphoreSlim _refreshing = new(1);
    private readonly SemaphoreSlim _loading = new(1);
    private readonly CancellationTokenSource _stopping = new();
    private readonly Dictionary<string, VersionEntry> _entries = new(StringComparer.Ordinal);
    private readonly Dictionary<string, (string ETag, string Cause)> _unreadable = new(StringComparer.Ordinal);
    private readonly TaskCompletionSource _looked = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private long _clock;
    private long _lastLook;

    /// <summary>Why storage could not be read at the last look; null when it could.</summary>
    public Exception? StorageFailure { get; private set; }

    /// <summary>Whether storage has been read since the start.</summary>
    public bool HasLooked => _looked.Task.IsCompleted;

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
        var lookedAgain = false;
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
                if (!HasLooked)
                {
                    await WaitForFirstLookAsync(cancellationToken);
                }
                else if (!lookedAgain)
                {
                    // It may have been published since the last look.
                    await LookAgainAsync(cancellationToken);
                    lookedAgain = true;
                }
                else
                {
                    throw NotFound(name);
                }

                continue;
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
            _looked.TrySetResult();
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

    // Unknown names cost at most a few looks a second, however many come: they share the first look that begins after they came.
    private async Task LookAgainAsync(CancellationToken cancellationToken)
    {
        var came = time.GetTimestamp();
        await _refreshing.WaitAsync(cancellationToken);
        try
        {
            if (_lastLook <= came)
            {
                var wait = LookAgainInterval - time.GetElapsedTime(_lastLook);
                if (wait > TimeSpan.Zero)
                {
                    await Task.Delay(wait, time, cancellationToken);
                }

                await DiscoverAsync(cancellationToken);
            }
        }
        catch (Exception exception) when (!cancellationToken.IsCancellationRequested)
        {
            StorageUnreadable(exception);
        }
        finally
        {
            _refreshing.Release();
        }
    }

    private async Task WaitForFirstLookAsync(CancellationToken cancellationToken)
    {
        try
        {
            await _looked.Task.WaitAsync(FirstLookTime, time, cancellationToken);
        }
        catch (TimeoutException)
        {
            throw new GatewayException(GatewayErrorKind.Unavailable, "Storage could not be read yet, so no model is known. Try again in a moment.", "model");
        }
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

            var path = name.StartsWith("models/", StringComparison.Ordinal) ? name : $"models/{name}";
            if (_unreadable.FirstOrDefault(u => u.Key == path || u.Key.StartsWith($"{path}/versions/", StringComparison.Ordinal)) is { Key: { } damaged, Value: var (_, cause) })
            {
                return new GatewayException(GatewayErrorKind.CorruptData, $"{damaged} cannot be served: {cause}", "model");
            }
        }

        return new GatewayException(GatewayErrorKind.ModelNotFound, $"The model '{printable}' does not exist. {there}", "model");
    }
}
