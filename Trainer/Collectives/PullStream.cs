using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Runtime.InteropServices;
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
    private const int ReadAheadBytes = 16 * 1024;

    private readonly Stream _connection;
    private readonly int _window;
    private readonly byte[] _ahead = new byte[ReadAheadBytes];
    private readonly byte[] _prefix = new byte[PullHello.PrefixBytes];
    private readonly Channel<Message> _messages = Channel.CreateUnbounded<Message>(new UnboundedChannelOptions { SingleReader = true, SingleWriter = true, AllowSynchronousContinuations = true });
    private readonly ConcurrentQueue<Message> _free = new();
    private readonly Lock _writing = new();
    private readonly byte[] _control = new byte[2 * Http2Frames.WindowUpdateBytes];
    private readonly SilenceWatch _watch;
    private readonly Thread _reading;
    private int _begin;
    private int _end;
    private int _prefixLength;
    private Message? _current;
    private int _unacknowledged;
    private bool _isSilent;

    private PullStream(Stream connection, int window)
    {
        (_connection, _window) = (connection, window);
        _watch = new SilenceWatch(() => Write(Http2Frames.Frame(Http2Frames.Ping, 0, 0, new byte[8])), () =>
        {
            _isSilent = true;
            _connection.Dispose();
        });
        _reading = new Thread(Read) { IsBackground = true, Name = "gradient stream" };
        _reading.Start();
    }

    /// <summary>Begins the call.</summary>
    /// <param name="connection">A fresh connection, over TLS or not; disposed with this.</param>
    /// <param name="address">What was dialled.</param>
    /// <param name="request">What is asked for.</param>
    /// <param name="window">Bytes that the server may send ahead.</param>
    /// <param name="cancellationToken">Ends the wait for the connection to take the request.</param>
    public static async Task<PullStream> OpenAsync(Stream connection, Uri address, PullRequest request, int window, CancellationToken cancellationToken)
    {
        await Task.Run(() => connection.Write(new PullHello(request, window).ToBytes(address)), cancellationToken);
        return new PullStream(connection, window);
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

        _unacknowledged += message.Length + PullHello.PrefixBytes;
        if (_unacknowledged >= _window / 4)
        {
            var increment = _unacknowledged;
            _unacknowledged = 0;
            Http2Frames.WindowUpdate(_control, PullHello.StreamId, increment);
            Http2Frames.WindowUpdate(_control.AsSpan(Http2Frames.WindowUpdateBytes), 0, increment);
            Write(_control);
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
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
        Fill(Http2Frames.HeaderBytes);
        var (length, type, flags, stream) = Http2Frames.ReadHeader(_ahead.AsSpan(_begin));
        _begin += Http2Frames.HeaderBytes;
        if (length > PullHello.MaxFrameBytes)
        {
            throw new InvalidDataException($"an HTTP/2 frame of {length} bytes");
        }

        if (type == Http2Frames.Data)
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
            case Http2Frames.Headers:
                if ((flags & 0x28) != 0 || (flags & Http2Frames.EndHeaders) == 0)
                {
                    throw new InvalidDataException("headers that are padded or go on");
                }

                return (flags & Http2Frames.EndStream) == 0 || End(payload);
            case Http2Frames.Reset when stream == PullHello.StreamId:
                throw new IOException($"the stream was reset (HTTP/2 error {BinaryPrimitives.ReadInt32BigEndian(payload)})");
            case Http2Frames.Settings when (flags & Http2Frames.Ack) == 0:
                Write(Http2Frames.Frame(Http2Frames.Settings, Http2Frames.Ack, 0, []));
                break;
            case Http2Frames.Ping when (flags & Http2Frames.Ack) == 0:
                Write(Http2Frames.Frame(Http2Frames.Ping, Http2Frames.Ack, 0, payload));
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
                var take = Math.Min(left, PullHello.PrefixBytes - _prefixLength);
                ReadExactly(_prefix.AsSpan(_prefixLength, take));
                (left, _prefixLength) = (left - take, _prefixLength + take);
                if (_prefixLength < PullHello.PrefixBytes)
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
        if (_prefix[0] != 0 || length > GradientStream.MaxMessageBytes)
        {
            throw new InvalidDataException($"a message of {length} bytes{(_prefix[0] == 0 ? "" : ", compressed")}; {GradientStream.MaxMessageBytes} are allowed");
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
        _watch.Hear();
        return count > 0 ? count : throw new IOException("the connection was closed");
    }

    // Where the connection is broken, reading tells what happened: the reason may have come before.
    private void Write(byte[] frame)
    {
        try
        {
            lock (_writing)
            {
                _connection.Write(frame);
            }
        }
        catch (Exception exception) when (exception is IOException or ObjectDisposedException)
        {
        }
    }

    private sealed class Message
    {
        public byte[] Bytes { get; set; } = [];

        public int Length { get; set; }

        public int Have { get; set; }
    }
}
