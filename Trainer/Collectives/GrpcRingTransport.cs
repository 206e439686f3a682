using System.Buffers;
using Grpc.Core;
using Grpc.Net.Client;
using LlmPipeline.ServiceDefaults;

namespace LlmPipeline.Trainer.Collectives;

/// <summary>
/// A ring over gRPC: this worker calls the rank before and adds what comes straight out of the receive buffer; the next rank
/// calls this worker and is answered through <see cref="PeerGradientService"/>.
/// </summary>
internal sealed class GrpcRingTransport : IRingTransport, IAsyncDisposable
{
    /// <summary>How long a peer that does not take connections is dialled again.</summary>
    private static readonly TimeSpan DialTime = TimeSpan.FromSeconds(3);

    private readonly GrpcChannel _channel;
    private readonly Method<PullRequest, GradientChunk> _pull;
    private readonly CancellationTokenSource _stop = new();
    private readonly TaskCompletionSource<IServerStreamWriter<GradientChunk>> _next = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource<bool> _over = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly GradientChunk _outgoing = new();
    private readonly long _created = TimeProvider.System.GetTimestamp();
    private AsyncServerStreamingCall<GradientChunk>? _call;
    private bool _receivedAny;
    private ChunkHeader _expected;
    private IChunkData? _target;
    private string? _refused;
    private volatile bool _aborted;
    private volatile bool _nextLost;

    /// <summary>Creates the ring's member; nothing is connected yet.</summary>
    /// <param name="epoch">The epoch.</param>
    /// <param name="rank">This worker's rank.</param>
    /// <param name="addresses">URLs of all members, by rank; at least 2.</param>
    public GrpcRingTransport(long epoch, int rank, IReadOnlyList<string> addresses)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(addresses.Count, 2);
        Epoch = epoch;
        Rank = rank;
        Size = addresses.Count;
        _channel = PeerChannels.Create(addresses[Previous]);
        _pull = GradientStream.CreateMethod(Accept);
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
            _outgoing.Header = header;
            _outgoing.Data = data;
            await writer.WriteAsync(_outgoing);
        }
        catch (Exception exception) when (exception is not RingBrokenException)
        {
            throw _aborted ? Broken() : new RingBrokenException($"Rank {Next} does not take chunks any more.", Next, exception);
        }
    }

    /// <inheritdoc/>
    public async Task ReceiveAsync(ChunkHeader expected, IChunkData data)
    {
        _expected = expected;
        _target = data;
        while (true)
        {
            try
            {
                _call ??= _channel.CreateCallInvoker().AsyncServerStreamingCall(
                    _pull, null, new CallOptions(cancellationToken: _stop.Token), new PullRequest(Epoch, Rank, Size));
                if (!await _call.ResponseStream.MoveNext(CancellationToken.None))
                {
                    throw new RingBrokenException($"Rank {Previous} has left the epoch.");
                }

                _receivedAny = true;
                return;
            }
            catch (RpcException exception) when (!_aborted && !_receivedAny && _refused is null && exception.StatusCode == StatusCode.Unavailable
                && TimeProvider.System.GetElapsedTime(_created) < DialTime)
            {
                _call?.Dispose();
                _call = null;
                await Task.Delay(100);
            }
            catch (Exception exception) when (exception is not RingBrokenException)
            {
                throw Explain(exception);
            }
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
    public async Task ServeAsync(PullRequest request, IServerStreamWriter<GradientChunk> writer, CancellationToken cancellationToken)
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
        _call?.Dispose();
        _channel.Dispose();
        _stop.Dispose();
    }

    private RingBrokenException Explain(Exception exception)
    {
        if (_refused is { } refused)
        {
            return new RingBrokenException($"Rank {Previous} sent something else than was due: {refused}", Previous, exception);
        }

        return exception switch
        {
            _ when _aborted => Broken(),
            RpcException { StatusCode: StatusCode.Aborted } aborted => new RingBrokenException($"Rank {Previous}: {aborted.Status.Detail}", -1, exception),
            RpcException rpc => new RingBrokenException($"The gradient stream of rank {Previous} broke: {rpc.StatusCode}, {rpc.Status.Detail}", Previous, exception),
            _ => new RingBrokenException($"The gradient stream of rank {Previous} broke: {exception.Message}", Previous, exception),
        };
    }

    private void Accept(ReadOnlySequence<byte> message)
    {
        if (!ChunkHeader.TryRead(message, out var header))
        {
            _refused = $"a message of {message.Length} bytes without a chunk header";
        }
        else if (header != _expected)
        {
            _refused = $"{header} instead of {_expected}";
        }
        else if (message.Length != ChunkHeader.Size + _target!.ByteCount(header))
        {
            _refused = $"{message.Length - ChunkHeader.Size} bytes of elements for {header}";
        }

        if (_refused is not null)
        {
            throw new InvalidDataException(_refused);
        }

        _target!.Accept(header, message.Slice(ChunkHeader.Size));
    }
}
