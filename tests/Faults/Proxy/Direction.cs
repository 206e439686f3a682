using System.Diagnostics;

namespace LlmPipeline.Faults.Proxy;

/// <summary>What happens to the bytes that go one way through a <see cref="FaultProxy"/>. Any of it may be changed while they flow.</summary>
public sealed class Direction
{
    private readonly Lock _lock = new();
    private TaskCompletionSource _changed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private long _passed;
    private long _free;
    private long? _budget;
    private bool _silent;

    /// <summary>How much later bytes arrive; counts for those that come in from now on.</summary>
    public TimeSpan Delay { get; set; }

    /// <summary>Up to so much is added to <see cref="Delay"/>, at random. Bytes never overtake each other.</summary>
    public TimeSpan Jitter { get; set; }

    /// <summary>Bytes a second of all connections together; null: as many as come.</summary>
    public double? BytesPerSecond { get; set; }

    /// <summary>Nothing arrives, as behind a cut cable: connections stay open, and what was sent arrives when the silence ends.</summary>
    public bool IsSilent
    {
        get
        {
            lock (_lock)
            {
                return _silent;
            }
        }

        set => Change(() => _silent = value);
    }

    /// <summary>So many bytes more may pass, over all connections; then it is silent. Null: no limit.</summary>
    public long? Budget
    {
        get
        {
            lock (_lock)
            {
                return _budget;
            }
        }

        set => Change(() => _budget = value);
    }

    /// <summary>Every connection is reset (RST) once it has passed so many bytes, counted from its beginning; the bytes before arrive. Null: never.</summary>
    public long? ResetAt { get; set; }

    /// <summary>Changes bytes on their way; null: they arrive as they were sent.</summary>
    public BytesOnTheWay? Tamper { get; set; }

    /// <summary>Bytes that were let through.</summary>
    public long Passed => Interlocked.Read(ref _passed);

    /// <summary>Waits until bytes may pass; returns how many of those wanted.</summary>
    internal async ValueTask<int> TakeAsync(int wanted, CancellationToken cancellationToken)
    {
        while (true)
        {
            Task changed;
            lock (_lock)
            {
                if (!_silent && _budget is not <= 0)
                {
                    var count = (int)Math.Min(wanted, _budget ?? wanted);
                    _budget -= count;
                    return count;
                }

                changed = _changed.Task;
            }

            await changed.WaitAsync(cancellationToken);
        }
    }

    /// <summary>Waits until a link of <see cref="BytesPerSecond"/> has sent what came before.</summary>
    internal async ValueTask WaitForTurnAsync(int count, CancellationToken cancellationToken)
    {
        if (BytesPerSecond is not { } speed)
        {
            return;
        }

        TimeSpan wait;
        lock (_lock)
        {
            var now = Stopwatch.GetTimestamp();
            _free = Math.Max(_free, now) + (long)(count / speed * Stopwatch.Frequency);
            wait = Stopwatch.GetElapsedTime(now, _free);
        }

        // Timers are coarse; a link that is ahead of them for less than that waits with the next bytes.
        if (wait > TimeSpan.FromMilliseconds(5))
        {
            await Task.Delay(wait, cancellationToken);
        }
    }

    internal void Pass(int count) => Interlocked.Add(ref _passed, count);

    private void Change(Action change)
    {
        TaskCompletionSource changed;
        lock (_lock)
        {
            change();
            (changed, _changed) = (_changed, new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously));
        }

        changed.SetResult();
    }
}

/// <summary>Sees a piece of a stream, wherever it was cut, and may change it.</summary>
/// <param name="bytes">The piece.</param>
public delegate void BytesOnTheWay(Span<byte> bytes);
