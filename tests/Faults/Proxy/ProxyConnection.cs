using System.Buffers;
using System.Diagnostics;
using System.Net.Sockets;
using System.Threading.Channels;

namespace LlmPipeline.Faults.Proxy;

/// <summary>One connection through a proxy: two pumps, each a reader and a writer with a queue between them.</summary>
internal sealed class ProxyConnection(Socket client, FaultProxy proxy) : IDisposable
{
    private const int PieceBytes = 64 * 1024;
    private const int QueuedPieces = 16;

    // State of a TCP socket in TCP_INFO (tcp.h).
    private const int TcpProtocol = 6;
    private const int TcpInfo = 11;
    private const byte TcpClosed = 7;

    private readonly CancellationTokenSource _over = new();
    private readonly HashSet<Socket> _shutDown = [];
    private Socket? _target;

    /// <summary>Returns when the connection is closed on both sides.</summary>
    public async Task RunAsync(CancellationToken stop)
    {
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(stop, _over.Token);

        // A target that refuses, or is gone before it is known to be there, is news of it like any other.
        await EndAsync(ConnectAsync(linked.Token), proxy.FromTarget, linked.Token);
    }

    /// <summary>Closes both sides with RST.</summary>
    public void Reset()
    {
        _over.Cancel();
        foreach (var socket in new[] { client, _target })
        {
            try
            {
                if (socket is not null)
                {
                    socket.LingerState = new LingerOption(true, 0);
                    socket.Close();
                }
            }
            catch (Exception exception) when (exception is SocketException or ObjectDisposedException)
            {
                // Closed already.
            }
        }
    }

    public void Dispose()
    {
        client.Dispose();
        _target?.Dispose();
    }

    private async Task ConnectAsync(CancellationToken cancellationToken)
    {
        client.NoDelay = true;
        _target = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        await _target.ConnectAsync(proxy.Target, cancellationToken);
        await Task.WhenAll(PumpAsync(client, _target, proxy.ToTarget, proxy.FromTarget, cancellationToken), PumpAsync(_target, client, proxy.FromTarget, proxy.ToTarget, cancellationToken));
    }

    private async Task PumpAsync(Socket from, Socket to, Direction direction, Direction back, CancellationToken cancellationToken)
    {
        var queue = Channel.CreateBounded<(byte[] Bytes, int Count, long Due)>(QueuedPieces);

        // That one side is gone does not overtake a silence either.
        await Task.WhenAll(
            EndAsync(ReadAsync(from, queue.Writer, direction, cancellationToken), direction, cancellationToken),
            EndAsync(WriteAsync(queue.Reader, to, direction, cancellationToken), back, cancellationToken));
    }

    private async Task EndAsync(Task work, Direction news, CancellationToken cancellationToken)
    {
        try
        {
            await work;
        }
        catch (Exception exception) when (exception is SocketException or OperationCanceledException or ObjectDisposedException)
        {
            await WaitForSoundAsync(news, cancellationToken);
            Reset();
        }
    }

    private static async Task WaitForSoundAsync(Direction direction, CancellationToken cancellationToken)
    {
        try
        {
            await direction.TakeAsync(0, cancellationToken);
        }
        catch (OperationCanceledException)
        {
        }
    }

    private async Task ReadAsync(Socket from, ChannelWriter<(byte[] Bytes, int Count, long Due)> queue, Direction direction, CancellationToken cancellationToken)
    {
        long last = 0;
        while (true)
        {
            var bytes = ArrayPool<byte>.Shared.Rent(PieceBytes);
            var count = await from.ReceiveAsync(bytes.AsMemory(0, PieceBytes), cancellationToken);
            if (count == 0 && WasReset(from))
            {
                throw new SocketException((int)SocketError.ConnectionReset);
            }

            direction.Tamper?.Invoke(bytes.AsSpan(0, count));
            var wait = direction.Delay + (direction.Jitter * Random.Shared.NextDouble());
            last = Math.Max(last, Stopwatch.GetTimestamp() + (long)(wait.TotalSeconds * Stopwatch.Frequency));
            await queue.WriteAsync((bytes, count, last), cancellationToken);
            if (count == 0)
            {
                queue.Complete();
                return;
            }
        }
    }

    private async Task WriteAsync(ChannelReader<(byte[] Bytes, int Count, long Due)> queue, Socket to, Direction direction, CancellationToken cancellationToken)
    {
        long passed = 0;
        await foreach (var (bytes, count, due) in queue.ReadAllAsync(cancellationToken))
        {
            if (Stopwatch.GetElapsedTime(Stopwatch.GetTimestamp(), due) is { Ticks: > 0 } wait)
            {
                await Task.Delay(wait, cancellationToken);
            }

            for (var sent = 0; sent < count;)
            {
                var wanted = direction.BytesPerSecond is null ? count - sent : Math.Min(count - sent, 4096);
                if (direction.ResetAt is { } end)
                {
                    wanted = (int)Math.Min(wanted, end - passed);
                    if (wanted <= 0)
                    {
                        Reset();
                        return;
                    }
                }

                var taken = await direction.TakeAsync(wanted, cancellationToken);
                await direction.WaitForTurnAsync(taken, cancellationToken);

                // Who has received bytes finds them counted.
                direction.Pass(taken);
                await SendAsync(to, bytes.AsMemory(sent, taken), cancellationToken);
                (sent, passed) = (sent + taken, passed + taken);
            }

            if (count == 0)
            {
                await direction.TakeAsync(0, cancellationToken);
                lock (_shutDown)
                {
                    _shutDown.Add(to);
                }

                to.Shutdown(SocketShutdown.Send);
            }

            ArrayPool<byte>.Shared.Return(bytes);
        }
    }

    // A reset is told once, to whoever asks first: where that was a send, receiving gives 0, as at an orderly end.
    private bool WasReset(Socket socket)
    {
        lock (_shutDown)
        {
            if (_shutDown.Contains(socket) || !OperatingSystem.IsLinux())
            {
                return false;
            }
        }

        Span<byte> info = stackalloc byte[1];
        return socket.GetRawSocketOption(TcpProtocol, TcpInfo, info) == 1 && info[0] == TcpClosed;
    }

    private static async Task SendAsync(Socket to, Memory<byte> bytes, CancellationToken cancellationToken)
    {
        while (bytes.Length > 0)
        {
            bytes = bytes[await to.SendAsync(bytes, cancellationToken)..];
        }
    }
}
