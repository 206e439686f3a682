using System.Net.Sockets;
using Grpc.Core;
using LlmPipeline.ServiceDefaults;

namespace LlmPipeline.Trainer.Collectives;

/// <summary>
/// A ring over gRPC: this worker calls the rank before (<see cref="PullStream"/>) and adds what comes straight out of the receive
/// buffer; the next rank calls this worker and is answered through <see cref="PullServer"/>.
/// </summary>
internal sealed class GrpcRingTransport : IRingTransport, IAsyncDisposable
{
    /// <summary>How long a peer that does not take connections is dialled again.</summary>
    private static readonly TimeSpan DialTime = TimeSpan.FromSeconds(3);

    private readonly Uri _previousAddress;
    private readonly PeerConnections _connections;
    private readonly CancellationTokenSource _stop = new();
    private readonly TaskCompletionSource<IChunkWriter> _next = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource<bool> _over = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly long _created = TimeProvider.System.GetTimestamp();
    private PullStream? _pull;
    private bool _disposed;
    private volatile bool _aborted;
    private volatile bool _nextLost;

    /// <summary>Creates the ring's member; nothing is connected yet.</summary>
    /// <param name="epoch">The epoch.</param>
    /// <param name="rank">This worker's rank.</param>
    /// <param name="addresses">URLs of all members, by rank; at least 2.</param>
    /// <param name="connections">Opens connections; null for those without TLS.</param>
    public GrpcRingTransport(long epoch, int rank, IReadOnlyList<string> addresses, PeerConnections? connections = null)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(addresses.Count, 2);
        Epoch = epoch;
        Rank = rank;
        Size = addresses.Count;
        _previousAddress = new Uri(addresses[Previous]);
        _connections = connections ?? PeerConnections.Plaintext;
    }

    /// <inheritdoc/>
    public long Epoch { get; }

    /// <inheritdoc/>
    public int Rank { get; }

    /// <inheritdoc/>
    public int Size { get; }

    /// <summary>Whether the ring is known not to work any more, before the next exchange shows it.</summary>
    public bool IsBroken => _aborted || _nextLost;

    private int Next => (Rank + 1) % Size;

    private int Previous => (Rank + Size - 1) % Size;

    /// <summary>The exception to throw where <see cref="IsBroken"/>.</summary>
    public RingBrokenException Broken() => _nextLost && !_aborted
        ? new RingBrokenException($"Rank {Next} closed its gradient stream.", Next)
        : new RingBrokenException("The ring was aborted.");

    /// <inheritdoc/>
    public async Task SendAsync(ChunkHeader header, IChunkData data)
    {
        try
        {
            var writer = await _next.Task.WaitAsync(_stop.Token);
            _stop.Token.ThrowIfCancellationRequested();
            await writer.WriteAsync(header, data);
        }
        catch (Exception exception) when (exception is not RingBrokenException)
        {
            throw _aborted ? Broken() : new RingBrokenException($"Rank {Next} does not take chunks any more.", Next, exception);
        }
    }

    /// <inheritdoc/>
    public async Task ReceiveAsync(ChunkHeader expected, IChunkData data)
    {
        try
        {
            _pull ??= await DialAsync();
            if (await _pull.ReadAsync(_stop.Token) is not { } message)
            {
                throw new RingBrokenException($"Rank {Previous} has left the epoch.");
            }

            Accept(expected, data, message.Span);
            _pull.Release(message);
        }
        catch (Exception exception) when (exception is not RingBrokenException)
        {
            throw Explain(exception);
        }
    }

    /// <inheritdoc/>
    public void Abort()
    {
        _aborted = true;
        _over.TrySetResult(false);
        _stop.Cancel();
    }

    /// <summary>Serves the next rank's pull until the epoch is over.</summary>
    public async Task ServeAsync(PullRequest request, IChunkWriter writer, CancellationToken cancellationToken)
    {
        if (request.Rank != Next || request.Size != Size)
        {
            RpcErrors.ThrowInvalidArgument(ErrorReasons.OldEpoch, $"Rank {request.Rank} of {request.Size} asked rank {Rank} of {Size} for chunks of epoch {Epoch}; only rank {Next} may.");
        }

        if (!_next.TrySetResult(writer))
        {
            throw RpcErrors.Create(StatusCode.AlreadyExists, ErrorReasons.OldEpoch, $"Rank {Next} has a stream of epoch {Epoch} already.");
        }

        using var lost = cancellationToken.Register(() =>
        {
            _nextLost = true;
            _over.TrySetResult(false);
        });
        if (!await _over.Task)
        {
            throw RpcErrors.Create(StatusCode.Aborted, ErrorReasons.OldEpoch, $"Epoch {Epoch} broke. Wait for a new one.");
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        _over.TrySetResult(true);
        _aborted = true;
        await _stop.CancelAsync();
        if (_pull is not null && !_disposed)
        {
            _disposed = true;
            await _pull.DisposeAsync();
        }

        _stop.Dispose();
    }

    /// <summary>Opens the stream. A peer that does not listen yet, or again, is dialled for some seconds.</summary>
    private async Task<PullStream> DialAsync()
    {
        while (true)
        {
            Stream? connection = null;
            try
            {
                connection = await _connections.OpenAsync(_previousAddress, _stop.Token);
                return await PullStream.OpenAsync(connection, _previousAddress, new PullRequest(Epoch, Rank, Size), _connections.Window, _stop.Token);
            }
            catch (Exception exception) when (exception is SocketException or IOException && !_aborted && TimeProvider.System.GetElapsedTime(_created) < DialTime)
            {
                connection?.Dispose();
                await Task.Delay(100, _stop.Token);
            }
        }
    }

    private RingBrokenException Explain(Exception exception) => exception switch
    {
        _ when _aborted => Broken(),
        InvalidDataException => new RingBrokenException($"Rank {Previous} sent something else than was due: {exception.Message}", Previous, exception),
        RpcException { StatusCode: StatusCode.Aborted } aborted => new RingBrokenException($"Rank {Previous}: {aborted.Status.Detail}", -1, exception),
        RpcException rpc => new RingBrokenException($"The gradient stream of rank {Previous} broke: {rpc.StatusCode}, {rpc.Status.Detail}", Previous, exception),
        _ => new RingBrokenException($"The gradient stream of rank {Previous} broke: {exception.Message}", Previous, exception),
    };

    private static void Accept(in ChunkHeader expected, IChunkData data, ReadOnlySpan<byte> message)
    {
        if (!ChunkHeader.TryRead(message, out var header))
        {
            throw new InvalidDataException($"a message of {message.Length} bytes without a chunk header");
        }

        if (header != expected)
        {
            throw new InvalidDataException($"{header} instead of {expected}");
        }

        try
        {
            data.Accept(header, message[ChunkHeader.Size..]);
        }
        catch (InvalidDataException exception)
        {
            throw new InvalidDataException($"{exception.Message}, for {header}", exception);
        }
    }
}
