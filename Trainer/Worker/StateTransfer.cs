using Google.Protobuf;
using Grpc.Core;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Trainer.Collectives;
using LlmPipeline.Workers.V1;

namespace LlmPipeline.Trainer.Worker;

/// <summary>The replica that this worker holds, for those that serve it to peers.</summary>
internal sealed class ReplicaHolder
{
    private volatile Replica? _replica;

    /// <summary>The replica; null when there is none, or when it is being filled.</summary>
    public Replica? Current
    {
        get => _replica;
        set => _replica = value;
    }
}

/// <summary>Serves this worker's state to a member that lacks it.</summary>
internal sealed class PeerStateService(ReplicaHolder holder, RingRegistry registry) : PeerService.PeerServiceBase
{
    /// <summary>Bytes of state a message.</summary>
    public const int PieceBytes = 512 * 1024;

    /// <inheritdoc/>
    public override async Task CopyState(CopyStateRequest request, IServerStreamWriter<CopyStateResponse> responseStream, ServerCallContext context)
    {
        await registry.WaitForEntryAsync(request.Epoch, context.CancellationToken);
        var replica = holder.Current;
        if (replica is null || replica.Run != request.Run || replica.Attempt != request.Attempt
            || replica.Served is not { } served || served.Step != request.Step || !served.TryHold())
        {
            throw Gone(request);
        }

        try
        {
            var piece = new byte[PieceBytes];
            for (long offset = 0; offset < served.Length; offset += PieceBytes)
            {
                var length = (int)Math.Min(PieceBytes, served.Length - offset);
                served.Read(offset, piece.AsSpan(0, length));

                // The bytes are written out before WriteAsync returns.
                await responseStream.WriteAsync(new CopyStateResponse { Data = UnsafeByteOperations.UnsafeWrap(piece.AsMemory(0, length)) }, context.CancellationToken);
            }
        }
        finally
        {
            served.Release();
        }
    }

    private static RpcException Gone(CopyStateRequest request) => RpcErrors.Create(StatusCode.Aborted, ErrorReasons.OldEpoch,
        $"This worker does not serve step {request.Step} of {request.Run}, attempt {request.Attempt}. Wait for a new epoch.");
}

/// <summary>Fills a replica from a peer.</summary>
internal static class StateCopy
{
    /// <summary>Copies parameters and optimizer state of a step. On failure they are unusable.</summary>
    /// <exception cref="RpcException">The peer is lost, or does not hold that state any more.</exception>
    /// <exception cref="InvalidDataException">It sent something else than a state of this model.</exception>
    public static async Task FillAsync(Replica replica, PeerConnections connections, string address, CopyStateRequest request, CancellationToken cancellationToken)
    {
        using var channel = connections.Channel(address);
        using var call = new PeerService.PeerServiceClient(channel).CopyState(request, cancellationToken: cancellationToken);
        long offset = 0;
        await foreach (var message in call.ResponseStream.ReadAllAsync(cancellationToken))
        {
            if (offset + message.Data.Length > replica.StateBytes)
            {
                throw new InvalidDataException($"{address} sent more than the {replica.StateBytes} bytes of state that this model has.");
            }

            replica.Write(offset, message.Data.Span);
            offset += message.Data.Length;
        }

        if (offset != replica.StateBytes)
        {
            throw new InvalidDataException($"{address} sent {offset} of the {replica.StateBytes} bytes of state that this model has.");
        }
    }
}
