using System.Buffers;
using System.Buffers.Binary;
using System.IO.Pipelines;
using System.Net.Sockets;
using Grpc.Core;
using Microsoft.AspNetCore.Connections;

namespace LlmPipeline.Trainer.Collectives;

/// <summary>
/// The server's side of the call that <see cref="PullStream"/> makes, on a connection that has nothing else. A chunk is written where the
/// connection takes it from and goes out as one frame; Kestrel's own HTTP/2 has it go through three buffers and as many threads.
/// </summary>
internal sealed class PullServer : IChunkWriter, IAsyncDisposable
{
    private const int MaxDetailLength = 2000;

    /// <summary>How long the end of a call may take to reach the client, behind chunks on a slow link. One that is silent is left earlier.</summary>
    private static readonly TimeSpan Farewell = TimeSpan.FromSeconds(60);

    private readonly ConnectionContext _connection;
    private readonly PipeReader _input;
    private readonly PipeWriter _output;
    private readonly SilenceWatch _watch;
    private readonly CancellationTokenSource _lost = new();
    private readonly CancellationTokenSource _over = new();

    // One writes at a time: chunks, or what the reader of the client's frames has to answer.
    private readonly SemaphoreSlim _writing = new(1);
    private readonly Lock _windows = new();
    private long _streamWindow;
    private long _connectionWindow;
    private TaskCompletionSource? _widened;
    private volatile bool _isOver;

    private PullServer(ConnectionContext connection, int window)
    {
        _connection = connection;
        (_input, _output) = (connection.Transport.Input, connection.Transport.Output);
        (_streamWindow, _connectionWindow) = (window, window);
        _watch = new SilenceWatch(() => _ = PingAsync(), () => connection.Abort(new ConnectionAbortedException("The client is silent and answers no ping.")));
    }

    /// <summary>Answers a client whose hello has been read.</summary>
    public static async Task RunAsync(ConnectionContext connection, PullHello hello, RingRegistry registry)
    {
        await using var server = new PullServer(connection, hello.Window);
        await server.ServeAsync(hello.Request, registry);
    }

    /// <inheritdoc/>
    public async ValueTask WriteAsync(ChunkHeader header, IChunkData data)
    {
        var room = Http2Frames.HeaderBytes + PullHello.PrefixBytes + ChunkHeader.Size + data.MaxBytes(header);
        while (WaitForWindow(room) is { } widened)
        {
            await widened.WaitAsync(_over.Token);
        }

        // What has begun is finished even where nobody waits for it any more: a frame, and a record of TLS, is sent whole or not at all.
        await _writing.WaitAsync(_over.Token);
        var sending = SendAsync(room, header, data);
        await (sending.IsCompleted ? sending : new ValueTask(sending.AsTask().WaitAsync(_over.Token)));

        // On a slow link the answer to a ping comes after much that was sent before; that a chunk goes out is a sign of life as well.
        _watch.Hear();
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await _watch.DisposeAsync();
        _lost.Dispose();
        _over.Dispose();
        _writing.Dispose();
    }

    private async Task ServeAsync(PullRequest request, RingRegistry registry)
    {
        var reading = ReadAsync();
        try
        {
            await WriteAsync(
                [
                    .. Http2Frames.SettingsFrame(),
                    .. Http2Frames.Frame(Http2Frames.Settings, Http2Frames.Ack, 0, []),

                    // 200, and the content type as a literal that is not to be indexed.
                    .. Http2Frames.Frame(Http2Frames.Headers, Http2Frames.EndHeaders, PullHello.StreamId, [0x88, 0x0F, 0x10, .. Http2Frames.Text("application/grpc")]),
                ]);
            var status = await ServeRingAsync(request, registry);

            // A chunk on its way out that the client does not take does not hold up the ring.
            await _over.CancelAsync();
            await WriteAsync(Http2Frames.Frame(Http2Frames.Headers, Http2Frames.EndHeaders | Http2Frames.EndStream, PullHello.StreamId, Trailers(status))).WaitAsync(Farewell, _lost.Token);

            // The client reads it and closes. Closing here before that could take it back.
            await reading.WaitAsync(Farewell);
        }
        catch (Exception exception) when (exception is IOException or SocketException or OperationCanceledException or TimeoutException)
        {
            // The client is gone, and the ring knows; or it takes nothing.
        }
        finally
        {
            _connection.Abort();
            await _over.CancelAsync();
            _isOver = true;
            _input.CancelPendingRead();
            await reading;

            // The connection takes its memory back: nobody may be writing to it, now or later.
            await _writing.WaitAsync();
        }
    }

    private async Task<Status> ServeRingAsync(PullRequest request, RingRegistry registry)
    {
        try
        {
            var ring = await registry.WaitForAsync(request.Epoch, _lost.Token);
            await ring.ServeAsync(request, this, _lost.Token);
            return Status.DefaultSuccess;
        }
        catch (RpcException exception)
        {
            return exception.Status;
        }
    }

    /// <summary>Reads what the client sends, until it closes the connection or the call is over.</summary>
    private async Task ReadAsync()
    {
        try
        {
            while (true)
            {
                var result = await _input.ReadAsync();
                if (_isOver)
                {
                    return;
                }

                var rest = result.Buffer;
                while (TryReadFrame(ref rest) is { } frame)
                {
                    _watch.Hear();
                    if (!await TakeFrameAsync(frame.Type, frame.Flags, frame.Stream, frame.Payload))
                    {
                        return;
                    }
                }

                _input.AdvanceTo(rest.Start, rest.End);
                if (result.IsCompleted)
                {
                    return;
                }
            }
        }
        catch (Exception)
        {
            // As if it had closed it. What a broken connection throws is the transport's choice.
        }
        finally
        {
            await _lost.CancelAsync();
        }
    }

    // Null where no whole frame has come yet.
    private static (byte Type, byte Flags, int Stream, byte[] Payload)? TryReadFrame(ref ReadOnlySequence<byte> bytes)
    {
        if (bytes.Length < Http2Frames.HeaderBytes)
        {
            return null;
        }

        Span<byte> header = stackalloc byte[Http2Frames.HeaderBytes];
        bytes.Slice(0, header.Length).CopyTo(header);
        var (length, type, flags, stream) = Http2Frames.ReadHeader(header);
        if (length > Http2Frames.UsualMaxBytes)
        {
            throw new InvalidDataException($"an HTTP/2 frame of {length} bytes");
        }

        if (bytes.Length < header.Length + length)
        {
            return null;
        }

        var payload = bytes.Slice(header.Length, length).ToArray();
        bytes = bytes.Slice(header.Length + length);
        return (type, flags, stream, payload);
    }

    /// <summary>False when the client wants no more.</summary>
    private async ValueTask<bool> TakeFrameAsync(byte type, byte flags, int stream, byte[] payload)
    {
        switch (type)
        {
            case Http2Frames.Window when payload.Length == 4:
                Widen(stream, BinaryPrimitives.ReadInt32BigEndian(payload) & int.MaxValue);
                return true;
            case Http2Frames.Ping when (flags & Http2Frames.Ack) == 0:
                await WriteAsync(Http2Frames.Frame(Http2Frames.Ping, Http2Frames.Ack, 0, payload));
                return true;
            default:
                return type is not Http2Frames.Reset and not Http2Frames.GoAway;
        }
    }

    private void Widen(int stream, int increment)
    {
        TaskCompletionSource? widened;
        lock (_windows)
        {
            if (stream == 0)
            {
                _connectionWindow += increment;
            }
            else
            {
                _streamWindow += increment;
            }

            (widened, _widened) = (_widened, null);
        }

        widened?.SetResult();
    }

    // Null where so many bytes may be sent now; otherwise what to wait for before asking again.
    private Task? WaitForWindow(int bytes)
    {
        lock (_windows)
        {
            return Math.Min(_streamWindow, _connectionWindow) >= bytes ? null
                : (_widened ??= new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously)).Task;
        }
    }

    private async Task PingAsync()
    {
        try
        {
            await WriteAsync(Http2Frames.Frame(Http2Frames.Ping, 0, 0, new byte[8]));
        }
        catch (Exception exception) when (exception is IOException or SocketException or OperationCanceledException or ObjectDisposedException)
        {
            // The call is over.
        }
    }

    private async Task WriteAsync(byte[] frames)
    {
        await _writing.WaitAsync();
        try
        {
            _output.Write(frames);
            await FlushAsync();
        }
        finally
        {
            _writing.Release();
        }
    }

    // Whoever calls has entered _writing.
    private async ValueTask SendAsync(int room, ChunkHeader header, IChunkData data)
    {
        try
        {
            var length = Fill(_output.GetSpan(room), header, data);
            lock (_windows)
            {
                _streamWindow -= length - Http2Frames.HeaderBytes;
                _connectionWindow -= length - Http2Frames.HeaderBytes;
            }

            _output.Advance(length);
            await FlushAsync();
        }
        finally
        {
            _writing.Release();
        }
    }

    private async ValueTask FlushAsync()
    {
        if ((await _output.FlushAsync()).IsCompleted)
        {
            throw new IOException("the connection was closed");
        }
    }

    private static int Fill(Span<byte> destination, in ChunkHeader header, IChunkData data)
    {
        var message = destination[(Http2Frames.HeaderBytes + PullHello.PrefixBytes)..];
        header.WriteTo(message);
        var length = ChunkHeader.Size + data.Write(header, message[ChunkHeader.Size..]);
        Http2Frames.WriteHeader(destination, PullHello.PrefixBytes + length, Http2Frames.Data, 0, PullHello.StreamId);
        destination[Http2Frames.HeaderBytes] = 0;
        BinaryPrimitives.WriteInt32BigEndian(destination[(Http2Frames.HeaderBytes + 1)..], length);
        return Http2Frames.HeaderBytes + PullHello.PrefixBytes + length;
    }

    private static byte[] Trailers(Status status)
    {
        var detail = status.Detail.Length <= MaxDetailLength ? status.Detail : status.Detail[..MaxDetailLength];
        return
        [
            0x00, .. Http2Frames.Text("grpc-status"), .. Http2Frames.Text($"{(int)status.StatusCode}"),
            0x00, .. Http2Frames.Text("grpc-message"), .. Http2Frames.Text(Uri.EscapeDataString(detail)),
        ];
    }
}
