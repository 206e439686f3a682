namespace LlmPipeline.Storage;

/// <summary>A lease that is renewed in the background for as long as it is held; disposing releases it.</summary>
public sealed class HeldLease : IAsyncDisposable
{
    /// <summary>How long a lease outlives its holder.</summary>
    public static readonly TimeSpan Duration = TimeSpan.FromSeconds(15);

    private static readonly TimeSpan RenewInterval = TimeSpan.FromSeconds(4);
    private static readonly TimeSpan ShortestWait = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan TakeInterval = TimeSpan.FromSeconds(0.25);

    private readonly IBlobLease _lease;
    private readonly TimeProvider _time;
    private readonly CancellationTokenSource _lost = new();
    private readonly CancellationTokenSource _released = new();
    private readonly Task _renewing;

    private HeldLease(IBlobLease lease, TimeProvider time)
    {
        (_lease, _time) = (lease, time);
        Lost = _lost.Token;
        _renewing = RenewAsync();
    }

    /// <summary>Cancelled when the lease could not be kept: another holder may have it.</summary>
    public CancellationToken Lost { get; }

    /// <summary>Takes the lease on a name; null when another holder has it.</summary>
    public static async Task<HeldLease?> TryTakeAsync(IBlobStore store, string name, TimeProvider? time = null, CancellationToken cancellationToken = default) =>
        await store.TryAcquireLeaseAsync(name, Duration, cancellationToken) is { } lease ? new HeldLease(lease, time ?? TimeProvider.System) : null;

    /// <summary>Takes the lease on a name as soon as no other holder has it.</summary>
    public static async Task<HeldLease> TakeAsync(IBlobStore store, string name, TimeProvider? time = null, CancellationToken cancellationToken = default)
    {
        while (true)
        {
            if (await TryTakeAsync(store, name, time, cancellationToken) is { } held)
            {
                return held;
            }

            await Task.Delay(TakeInterval, time ?? TimeProvider.System, cancellationToken);
        }
    }

    /// <summary>
    /// Asks the store whether the lease is still held. To be done just before something is committed: a process that was stopped for a
    /// while does not know that its time is over.
    /// </summary>
    public async Task<bool> ConfirmAsync(CancellationToken cancellationToken = default)
    {
        if (!_lost.IsCancellationRequested && await _lease.RenewAsync(cancellationToken))
        {
            return true;
        }

        await _lost.CancelAsync();
        return false;
    }

    /// <summary>Does what only the holder may do, and makes sure that it was still held at the end of it.</summary>
    /// <exception cref="IOException">The lease was lost meanwhile.</exception>
    public async Task WhileHeldAsync(Func<CancellationToken, Task> work, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(work);
        using var held = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, Lost);
        try
        {
            await work(held.Token);
            if (await ConfirmAsync(cancellationToken))
            {
                return;
            }
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
        }

        throw new IOException("Storage did not answer for so long that another process may have taken over meanwhile. Try again.");
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await _released.CancelAsync();
        await _renewing.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await _lease.DisposeAsync();
        _released.Dispose();
        _lost.Dispose();
    }

    private async Task RenewAsync()
    {
        var renewed = _time.GetTimestamp();
        while (!_released.IsCancellationRequested)
        {
            await Task.Delay(RenewInterval, _time, _released.Token);
            try
            {
                // A store that is silent must not make this holder believe that it holds on.
                var asked = _time.GetTimestamp();
                var left = Duration - RenewInterval - _time.GetElapsedTime(renewed);
                if (!await _lease.RenewAsync(_released.Token).WaitAsync(left > ShortestWait ? left : ShortestWait, _time, _released.Token))
                {
                    break;
                }

                renewed = asked;
            }
            catch (Exception exception) when (StorageFailure.Is(exception) || exception is TimeoutException)
            {
                if (_time.GetElapsedTime(renewed) >= Duration - RenewInterval)
                {
                    break;
                }
            }
        }

        if (!_released.IsCancellationRequested)
        {
            await _lost.CancelAsync();
        }
    }
}
