using System.Net;
using System.Net.Sockets;

namespace LlmPipeline.Faults.Proxy;

/// <summary>
/// A TCP proxy that does to connections what networks do: delays, jitter, a narrow link, resets in the middle of a message,
/// silence one way or both. All of it can be changed at any time, and holds for open connections and new ones.
/// </summary>
public sealed class FaultProxy : IDisposable
{
    private readonly Socket _listener;
    private readonly CancellationTokenSource _stop = new();
    private readonly Lock _lock = new();
    private readonly HashSet<ProxyConnection> _open = [];

    /// <summary>Listens on a free port.</summary>
    /// <param name="target">Where connections go.</param>
    /// <param name="listen">Address to listen on; null: loopback.</param>
    public FaultProxy(EndPoint target, IPAddress? listen = null)
    {
        Target = target;
        listen ??= IPAddress.Loopback;
        _listener = new Socket(listen.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        _listener.Bind(new IPEndPoint(listen, 0));
        _listener.Listen(128);
        _ = AcceptAsync();
    }

    /// <summary>Where new connections go; the open ones stay where they are.</summary>
    public EndPoint Target { get; set; }

    /// <summary>Where it listens.</summary>
    public IPEndPoint Endpoint => (IPEndPoint)_listener.LocalEndPoint!;

    /// <summary>Where it listens, as a URL.</summary>
    public string Address => $"http://{Endpoint}";

    /// <summary>From those who connect to the target.</summary>
    public Direction ToTarget { get; } = new();

    /// <summary>From the target to those who connect.</summary>
    public Direction FromTarget { get; } = new();

    /// <summary>Silence both ways; new connections are taken, and hear nothing.</summary>
    public bool IsPartitioned
    {
        get => ToTarget.IsSilent && FromTarget.IsSilent;
        set => ToTarget.IsSilent = FromTarget.IsSilent = value;
    }

    /// <summary>Connections that are open.</summary>
    public int ConnectionCount
    {
        get
        {
            lock (_lock)
            {
                return _open.Count;
            }
        }
    }

    /// <summary>Resets (RST) every open connection; returns how many there were.</summary>
    public int Reset()
    {
        ProxyConnection[] open;
        lock (_lock)
        {
            open = [.. _open];
        }

        foreach (var connection in open)
        {
            connection.Reset();
        }

        return open.Length;
    }

    /// <summary>Ends every disturbance that can be ended.</summary>
    public void Heal()
    {
        foreach (var direction in new[] { ToTarget, FromTarget })
        {
            (direction.Delay, direction.Jitter, direction.BytesPerSecond, direction.ResetAt) = (TimeSpan.Zero, TimeSpan.Zero, null, null);
            (direction.Budget, direction.IsSilent) = (null, false);
        }
    }

    /// <summary>Resets all connections and takes none any more.</summary>
    public void Dispose()
    {
        _stop.Cancel();
        _listener.Dispose();
        Reset();
    }

    private async Task AcceptAsync()
    {
        while (!_stop.IsCancellationRequested)
        {
            try
            {
                var client = await _listener.AcceptAsync(_stop.Token);
                _ = ServeAsync(client);
            }
            catch (Exception exception) when (exception is OperationCanceledException or SocketException or ObjectDisposedException)
            {
                // A connection that was reset before it was accepted is none; after Dispose the loop ends.
            }
        }
    }

    private async Task ServeAsync(Socket client)
    {
        using var connection = new ProxyConnection(client, this);
        lock (_lock)
        {
            _open.Add(connection);
        }

        try
        {
            await connection.RunAsync(_stop.Token);
        }
        finally
        {
            lock (_lock)
            {
                _open.Remove(connection);
            }
        }
    }
}
