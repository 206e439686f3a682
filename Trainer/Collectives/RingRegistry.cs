using Grpc.Core;
using LlmPipeline.ServiceDefaults;

namespace LlmPipeline.Trainer.Collectives;

/// <summary>Knows the ring that this worker is in now. A pull of an older epoch is ABORTED, one of a newer epoch waits.</summary>
internal sealed class RingRegistry
{
    /// <summary>Longest wait of a pull for an epoch that this worker has not entered yet.</summary>
    private static readonly TimeSpan EntryTimeout = TimeSpan.FromSeconds(60);

    private readonly Lock _lock = new();
    private TaskCompletionSource _changed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private GrpcRingTransport? _ring;
    private long _newestEpoch;

    /// <summary>The newest epoch that this worker has entered.</summary>
    public long NewestEpoch
    {
        get
        {
            lock (_lock)
            {
                return _newestEpoch;
            }
        }
    }

    /// <summary>Says that this worker acts in an epoch from now on; with no ring when it is the only member.</summary>
    public void Enter(long epoch, GrpcRingTransport? ring)
    {
        TaskCompletionSource changed;
        lock (_lock)
        {
            _newestEpoch = Math.Max(_newestEpoch, epoch);
            _ring = ring;
            changed = _changed;
            _changed = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        }

        changed.SetResult();
    }

    /// <summary>Breaks the present ring, for a process that exits.</summary>
    public void Abort()
    {
        lock (_lock)
        {
            _ring?.Abort();
        }
    }

    /// <summary>The ring of an epoch, once this worker is in it.</summary>
    /// <exception cref="RpcException">ABORTED: the epoch is over, or this worker did not enter it in time.</exception>
    public async Task<GrpcRingTransport> WaitForAsync(long epoch, CancellationToken cancellationToken)
    {
        var entered = await WaitForEntryAsync(epoch, cancellationToken);
        return entered ?? throw OldEpoch(epoch, NewestEpoch);
    }

    /// <summary>Waits until this worker is in an epoch; returns its ring, if there is one.</summary>
    /// <exception cref="RpcException">ABORTED: the epoch is over, or this worker did not enter it in time.</exception>
    public async Task<GrpcRingTransport?> WaitForEntryAsync(long epoch, CancellationToken cancellationToken)
    {
        var deadline = TimeProvider.System.GetTimestamp();
        while (true)
        {
            Task changed;
            lock (_lock)
            {
                if (epoch < _newestEpoch)
                {
                    throw OldEpoch(epoch, _newestEpoch);
                }

                if (epoch == _newestEpoch)
                {
                    return _ring is { } ring && ring.Epoch == epoch ? ring : null;
                }

                changed = _changed.Task;
            }

            var left = EntryTimeout - TimeProvider.System.GetElapsedTime(deadline);
            try
            {
                await changed.WaitAsync(left > TimeSpan.Zero ? left : TimeSpan.Zero, cancellationToken);
            }
            catch (TimeoutException)
            {
                throw RpcErrors.Create(StatusCode.Aborted, ErrorReasons.OldEpoch, $"This worker did not enter epoch {epoch} within {EntryTimeout.TotalSeconds:F0} s. Wait for a new epoch.");
            }
        }
    }

    private static RpcException OldEpoch(long epoch, long newest) =>
        RpcErrors.Create(StatusCode.Aborted, ErrorReasons.OldEpoch, $"Epoch {epoch} is over; this worker is in epoch {newest}. Wait for a new assignment.");
}
