using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace LlmPipeline.Bench.Exchange;

/// <summary>
/// A ring all-reduce of fp32 over plain sockets: what the algorithm costs without HTTP/2, in the same language. Two threads that
/// block, chunks of 256 KiB.
/// </summary>
internal sealed class RawTcpRing : IDisposable
{
    private const int Chunk = 64 * 1024;

    private readonly int _rank;
    private readonly int _size;
    private readonly Socket _next;
    private readonly Socket _previous;
    private readonly float[] _received = new float[Chunk];

    /// <summary>Connects to the rank before, and waits for the next one.</summary>
    public RawTcpRing(int rank, IReadOnlyList<int> ports)
    {
        (_rank, _size) = (rank, ports.Count);
        using var listener = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(new IPEndPoint(IPAddress.Loopback, ports[rank]));
        listener.Listen();
        _previous = Dial(ports[(rank + _size - 1) % _size]);
        _next = listener.Accept();
        _next.NoDelay = _previous.NoDelay = true;
    }

    /// <summary>Sums in place.</summary>
    public void Run(float[] values)
    {
        using var arrived = new SemaphoreSlim(0);
        var segment = (values.Length + _size - 1) / _size;
        var chunks = (segment + Chunk - 1) / Chunk;
        var sender = new Thread(() =>
        {
            for (var stage = 0; stage < 2 * (_size - 1); stage++)
            {
                for (var chunk = 0; chunk < chunks; chunk++)
                {
                    if (stage > 0)
                    {
                        arrived.Wait();
                    }

                    var bytes = MemoryMarshal.AsBytes(Part(values, segment, chunk, _rank - stage));
                    while (bytes.Length > 0)
                    {
                        bytes = bytes[_next.Send(bytes)..];
                    }
                }
            }
        });
        sender.Start();
        for (var stage = 0; stage < 2 * (_size - 1); stage++)
        {
            for (var chunk = 0; chunk < chunks; chunk++)
            {
                var part = Part(values, segment, chunk, _rank - stage - 1);
                var isSum = stage < _size - 1;
                var target = isSum ? _received.AsSpan(0, part.Length) : part;
                var bytes = MemoryMarshal.AsBytes(target);
                while (bytes.Length > 0)
                {
                    var count = _previous.Receive(bytes);
                    bytes = count > 0 ? bytes[count..] : throw new IOException("The ring was closed.");
                }

                if (isSum)
                {
                    Add(target, part);
                }

                arrived.Release();
            }
        }

        sender.Join();
    }

    public void Dispose()
    {
        _next.Dispose();
        _previous.Dispose();
    }

    private Span<float> Part(float[] values, int segment, int chunk, int owner)
    {
        var begin = Math.Min((owner + (2 * _size)) % _size * segment, values.Length);
        var end = Math.Min(begin + segment, values.Length);
        begin = Math.Min(begin + (chunk * Chunk), end);
        return values.AsSpan(begin, Math.Min(Chunk, end - begin));
    }

    private static void Add(ReadOnlySpan<float> addend, Span<float> sum)
    {
        var i = 0;
        for (; i + Vector512<float>.Count <= sum.Length; i += Vector512<float>.Count)
        {
            (Vector512.Create(addend[i..]) + Vector512.Create((ReadOnlySpan<float>)sum[i..])).CopyTo(sum[i..]);
        }

        for (; i < sum.Length; i++)
        {
            sum[i] += addend[i];
        }
    }

    private static Socket Dial(int port)
    {
        for (var attempt = 0; ; attempt++)
        {
            var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            try
            {
                socket.Connect(IPAddress.Loopback, port);
                return socket;
            }
            catch (SocketException) when (attempt < 100)
            {
                socket.Dispose();
                Thread.Sleep(100);
            }
        }
    }
}
