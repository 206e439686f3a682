namespace LlmPipeline.Trainer.Collectives;

/// <summary>
/// Notices that the other side of a connection is silent: asks for a sign of life after <see cref="PeerChannels.PingDelay"/>, and gives up
/// <see cref="PeerChannels.PingTimeout"/> later. Ticks are counted, not time: a process that stood still has not listened.
/// </summary>
internal sealed class SilenceWatch : IAsyncDisposable
{
    private const int TicksUntilPing = 4;
    private static readonly TimeSpan Tick = PeerChannels.PingDelay / TicksUntilPing;
    private static readonly int TicksOfSilence = (int)((PeerChannels.PingDelay + PeerChannels.PingTimeout) / Tick);

    private readonly Action _ping;
    private readonly Action _silent;
    private readonly Timer _timer;
    private long _signs;
    private long _signsBefore;
    private int _quietTicks;

    /// <summary>Begins to watch.</summary>
    /// <param name="ping">Asks for a sign of life, and does not throw.</param>
    /// <param name="silent">Ends the connection; may be called again, and does not throw.</param>
    public SilenceWatch(Action ping, Action silent)
    {
        (_ping, _silent) = (ping, silent);
        _timer = new Timer(static watch => ((SilenceWatch)watch!).Look(), this, Tick, Tick);
    }

    /// <summary>The other side lives.</summary>
    public void Hear() => Interlocked.Increment(ref _signs);

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => _timer.DisposeAsync();

    private void Look()
    {
        var signs = Volatile.Read(ref _signs);
        _quietTicks = signs == _signsBefore ? _quietTicks + 1 : 0;
        _signsBefore = signs;
        if (_quietTicks >= TicksOfSilence)
        {
            _silent();
        }
        else if (_quietTicks == TicksUntilPing)
        {
            _ping();
        }
    }
}
