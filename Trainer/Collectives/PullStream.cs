using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Runtime.InteropServices;
using System.Text;
using System.Threading.Channels;
using Grpc.Core;

namespace LlmPipeline.Trainer.Collectives;

/// <summary>
/// The client's side of one gRPC call with a stream of answers, on an HTTP/2 connection of its own (RFC 9113; gRPC's PROTOCOL-HTTP2).
/// HttpClient takes frames of 16 KiB only, which is most of what gradients cost over it; this asks for frames of a whole message
/// and reads them where they are wanted. A thread of its own reads, blocked in the system's call: one change of threads for a piece of
/// a frame, where a socket that is waited for asynchronously takes several.
/// </summary>
internal sealed class PullStream : IAsyncDisposable
{
    /// <summary>Largest frame that is asked for, and that a server of gradients sends.</summary>
    public const int MaxFrameBytes = 1024 * 1024;

    private const int FrameHeaderBytes = 9;
    private const int PrefixBytes = 5;
    private const int ReadAheadBytes = 16 * 1024;
    private const int StreamId = 1;

    private const int TicksUntilPing = 4;
    private static readonly TimeSpan Tick = PeerChannels.PingDelay / TicksUntilPing;
    private static readonly int TicksOfSilence = (int)((PeerChannels.PingDelay + PeerChannels.PingTimeout) / Tick);

    private readonly Stream _connection;
    private readonly int _window;
    private readonly int _maxMessageBytes;
    private readonly byte[] _ahead = new byte[ReadAheadBytes];
    private readonly byte[] _prefix = new byte[PrefixBytes];
    private readonly Channel<Message> _messages = Channel.CreateUnbounded<Message>(new UnboundedChannelOptions { SingleReader = true, SingleWriter = true, AllowSynchronousContinuations = true });
    private readonly ConcurrentQueue<Message> _free = new();
    private readonly Lock _writing = new();
    private readonly byte[] _control = new byte[2 * (FrameHeaderBytes + 4)];
    private readonly Timer _watch;
    private readonly Thread _reading;
    private int _begin;
    private int _end;
    private int _prefixLength;
    private Message? _current;
    private int _unacknowledged;
    private long _received;
    private long _receivedBefore;
    private int _quietTicks;
    private bool _isSilent;
    private bool _disposed;

    private PullStream(Stream connection, int window, int maxMessageBytes)
    {
        (_connection, _window, _maxMessageBytes) = (connection, window, maxMessageBytes);
        _watch = new Timer(_ => Watch(), null, Tick, Tick);
        _reading = new Thread(Read) { IsBackground = true, Name = "gradient stream" };
        _reading.Start();
    }

    /// <summary>Begins the call.</summary>
    /// <param name="connection">A fresh connection, over TLS or not; disposed with this.</param>
    /// <param name="address">What was dialled.</param>
    /// <param name="path">The method: <c>/package.Service/Method</c>.</param>
    /// <param name="request">The request's message.</param>
    /// <param name="window">Bytes that the server may send ahead.</param>
    /// <param name="maxMessageBytes">No answer is larger.</param>
    /// <param name="cancellationToken">Ends the wait for the connection to take the request.</param>
    public static async Task<PullStream> OpenAsync(Stream connection, Uri address, string path, ReadOnlyMemory<byte> request, int window, int maxMessageBytes, CancellationToken cancellationToken)
    {
        using var hello = new MemoryStream();
        hello.Write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"u8);

        // Without a dynamic table, header blocks can be read on their own.
        hello.Write(Settings((1, 0), (2, 0), (4, window), (5, MaxFrameBytes)));
        hello.Write(Frame(8, 0, 0, Big(window - 65535)));
        hello.Write(Frame(1, 0x4, StreamId, RequestHeaders(address, path)));
        hello.Write(Frame(0, 0x1, StreamId, [0, .. Big(request.Length), .. request.Span]));
        await Task.Run(() => connection.Write(hello.ToArray()), cancellationToken);
        return new PullStream(connection, window, maxMessageBytes);
    }

    /// <summary>Waits for the next message; null when the server has ended the call well.</summary>
    /// <exception cref="RpcException">The server ended it with an error.</exception>
    /// <exception cref="IOException">The connection broke.</exception>
    /// <exception cref="InvalidDataException">It sent what a server of this call does not.</exception>
    public async ValueTask<ReadOnlyMemory<byte>?> ReadAsync(CancellationToken cancellationToken)
    {
        if (!_messages.Reader.TryRead(out var message))
        {
            if (!await _messages.Reader.WaitToReadAsync(cancellationToken) || !_messages.Reader.TryRead(out message))
            {
                return null;
            }
        }

        return message.Bytes.AsMemory(0, message.Length);
    }

    /// <summary>Gives a message back that was read, so that the server may send on.</summary>
    public void Release(ReadOnlyMemory<byte> message)
    {
        if (MemoryMarshal.TryGetArray(message, out var segment))
        {
            _free.Enqueue(new Message { Bytes = segment.Array! });
        }

        _unacknowledged += message.Length + PrefixBytes;
        if (_unacknowledged >= _window / 4)
        {
            var increment = _unacknowledged;
            _unacknowledged = 0;
            lock (_writing)
            {
                WindowUpdate(_control, StreamId, increment);
                WindowUpdate(_control.AsSpan(FrameHeaderBytes + 4), 0, increment);
                _connection.Write(_control);
            }
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        _disposed = true;
        await _watch.DisposeAsync();
        await _connection.DisposeAsync();
        if (Thread.CurrentThread != _reading)
        {
            _reading.Join();
        }
    }

    private void Read()
    {
        try
        {
            while (ReadFrame())
            {
            }

            _messages.Writer.Complete();
        }
        catch (Exception exception)
        {
            _messages.Writer.Complete(exception is RpcException or InvalidDataException ? exception
                : new IOException(_isSilent ? "it is silent and answers no ping" : exception.Message, exception));
        }
    }

    /// <summary>Takes one frame; false when the call is over.</summary>
    private bool ReadFrame()
    {
        Fill(FrameHeaderBytes);
        var (length, type, flags, stream) = Header(_ahead.AsSpan(_begin));
        _begin += FrameHeaderBytes;
        if (length > MaxFrameBytes)
        {
            throw new InvalidDataException($"an HTTP/2 frame of {length} bytes");
        }

        if (type == 0)
        {
            if ((flags & 0x9) != 0)
            {
                throw new InvalidDataException("padding, or an end without a status");
            }

            ReadData(length);
            return true;
        }

        var payload = length == 0 ? [] : new byte[length];
        ReadExactly(payload);
        switch (type)
        {
            case 1:
                if ((flags & 0x28) != 0 || (flags & 0x4) == 0)
                {
                    throw new InvalidDataException("headers that are padded or go on");
                }

                return (flags & 0x1) == 0 || End(payload);
            case 3 when stream == StreamId:
                throw new IOException($"the stream was reset (HTTP/2 error {BinaryPrimitives.ReadInt32BigEndian(payload)})");
            case 4 when (flags & 0x1) == 0:
                Write(Frame(4, 0x1, 0, []));
                break;
            case 6 when (flags & 0x1) == 0:
                Write(Frame(6, 0x1, 0, payload));
                break;
        }

        return true;
    }

    private void ReadData(int left)
    {
        while (left > 0)
        {
            if (_current is null)
            {
                var take = Math.Min(left, PrefixBytes - _prefixLength);
                ReadExactly(_prefix.AsSpan(_prefixLength, take));
                (left, _prefixLength) = (left - take, _prefixLength + take);
                if (_prefixLength < PrefixBytes)
                {
                    continue;
                }

                Begin();
            }
            else
            {
                var take = Math.Min(left, _current.Length - _current.Have);
                ReadExactly(_current.Bytes.AsSpan(_current.Have, take));
                (left, _current.Have) = (left - take, _current.Have + take);
            }

            if (_current is { } message && message.Have == message.Length)
            {
                (_current, _prefixLength) = (null, 0);
                _messages.Writer.TryWrite(message);
            }
        }
    }

    private void Begin()
    {
        var length = BinaryPrimitives.ReadUInt32BigEndian(_prefix.AsSpan(1));
        if (_prefix[0] != 0 || length > _maxMessageBytes)
        {
            throw new InvalidDataException($"a message of {length} bytes{(_prefix[0] == 0 ? "" : ", compressed")}; {_maxMessageBytes} are allowed");
        }

        if (!_free.TryDequeue(out var message))
        {
            message = new Message();
        }

        if (message.Bytes.Length < length)
        {
            message.Bytes = GC.AllocateUninitializedArray<byte>((int)length);
        }

        (message.Length, message.Have) = ((int)length, 0);
        _current = message;
    }

    private static bool End(byte[] trailers)
    {
        var (status, detail) = ResponseHeaders.Status(trailers);
        return status == (int)StatusCode.OK ? false : throw new RpcException(new Status((StatusCode)(status ?? (int)StatusCode.Unknown), detail ?? "it ended the call without a status"));
    }

    private void ReadExactly(Span<byte> destination)
    {
        var have = Math.Min(destination.Length, _end - _begin);
        _ahead.AsSpan(_begin, have).CopyTo(destination);
        _begin += have;
        destination = destination[have..];
        while (destination.Length > 0)
        {
            // Small rests come with what follows them.
            if (destination.Length < ReadAheadBytes / 4)
            {
                Fill(destination.Length);
                _ahead.AsSpan(_begin, destination.Length).CopyTo(destination);
                _begin += destination.Length;
                return;
            }

            destination = destination[Receive(destination)..];
        }
    }

    // Lets at least so many bytes be read ahead.
    private void Fill(int count)
    {
        if (_end - _begin >= count)
        {
            return;
        }

        _ahead.AsSpan(_begin, _end - _begin).CopyTo(_ahead);
        (_begin, _end) = (0, _end - _begin);
        while (_end < count)
        {
            _end += Receive(_ahead.AsSpan(_end));
        }
    }

    private int Receive(Span<byte> destination)
    {
        var count = _connection.Read(destination);
        Volatile.Write(ref _received, _received + count);
        return count > 0 ? count : throw new IOException("the connection was closed");
    }

    // A ping after a second without a byte; silence that lasts ends the connection. Ticks are counted, not time: a process that stood
    // still has not listened.
    private void Watch()
    {
        var received = Volatile.Read(ref _received);
        _quietTicks = received == _receivedBefore ? _quietTicks + 1 : 0;
        _receivedBefore = received;
        try
        {
            if (_quietTicks >= TicksOfSilence)
            {
                _isSilent = true;
                _connection.Dispose();
            }
            else if (_quietTicks == TicksUntilPing && !_disposed)
            {
                Write(Frame(6, 0, 0, new byte[8]));
            }
        }
        catch (Exception exception) when (exception is IOException or ObjectDisposedException)
        {
            // The reader learns of it as well.
        }
    }

    private void Write(byte[] frame)
    {
        lock (_writing)
        {
            _connection.Write(frame);
        }
    }

    private static (int Length, int Type, int Flags, int Stream) Header(ReadOnlySpan<byte> bytes) =>
        ((bytes[0] << 16) | BinaryPrimitives.ReadUInt16BigEndian(bytes[1..]), bytes[3], bytes[4], BinaryPrimitives.ReadInt32BigEndian(bytes[5..]) & int.MaxValue);

    private static void WindowUpdate(Span<byte> destination, int stream, int increment)
    {
        destination[..FrameHeaderBytes].Clear();
        (destination[2], destination[3]) = (4, 8);
        BinaryPrimitives.WriteInt32BigEndian(destination[5..], stream);
        BinaryPrimitives.WriteInt32BigEndian(destination[FrameHeaderBytes..], increment);
    }

    private static byte[] Frame(byte type, byte flags, int stream, byte[] payload) => [.. Big(payload.Length)[1..], type, flags, .. Big(stream), .. payload];

    private static byte[] Settings(params (byte Id, int Value)[] settings) => Frame(4, 0, 0, [.. settings.SelectMany(s => (byte[])[0, s.Id, .. Big(s.Value)])]);

    private static byte[] Big(int value)
    {
        var bytes = new byte[4];
        BinaryPrimitives.WriteInt32BigEndian(bytes, value);
        return bytes;
    }

    // HPACK (RFC 7541): indexed fields of the static table, and literals that are not to be indexed.
    private static byte[] RequestHeaders(Uri address, string path) =>
    [
        0x83, address.Scheme == Uri.UriSchemeHttps ? (byte)0x87 : (byte)0x86,
        0x04, .. Text(path), 0x01, .. Text(address.Authority), 0x0F, 0x10, .. Text("application/grpc"), 0x00, .. Text("te"), .. Text("trailers"),
    ];

    private static byte[] Text(string text) => text.Length < 127 ? [(byte)text.Length, .. Encoding.ASCII.GetBytes(text)] : throw new ArgumentException($"'{text}' is too long.");

    private sealed class Message
    {
        public byte[] Bytes { get; set; } = [];

        public int Length { get; set; }

        public int Have { get; set; }
    }
}
