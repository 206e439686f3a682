using Grpc.Core;

namespace LlmPipeline.Trainer.Collectives;

/// <summary>The gradient stream's service, bound by hand because its messages are raw bytes.</summary>
[BindServiceMethod(typeof(PeerGradientServiceBase), nameof(BindService))]
internal abstract class PeerGradientServiceBase
{
    /// <summary>Binds the calls; <paramref name="service"/> is null when only their descriptions are wanted.</summary>
    public static void BindService(ServiceBinderBase binder, PeerGradientServiceBase? service)
        => binder.AddMethod(GradientStream.ServerMethod, service is null ? null : new ServerStreamingServerMethod<PullRequest, GradientChunk>(service.Pull));

    /// <summary>Streams this worker's chunks to the next rank until the epoch is over.</summary>
    public abstract Task Pull(PullRequest request, IServerStreamWriter<GradientChunk> responseStream, ServerCallContext context);
}

/// <summary>
/// Answers the next rank's pull with the chunks of this worker's ring, for any client. Those that begin as <see cref="PullStream"/> does
/// are answered by <see cref="PullServer"/>.
/// </summary>
internal sealed class PeerGradientService(RingRegistry registry) : PeerGradientServiceBase
{
    /// <inheritdoc/>
    public override async Task Pull(PullRequest request, IServerStreamWriter<GradientChunk> responseStream, ServerCallContext context)
    {
        var ring = await registry.WaitForAsync(request.Epoch, context.CancellationToken);
        await ring.ServeAsync(request, new Writer(responseStream), context.CancellationToken);
    }
    private sealed class Writer(IServerStreamWriter<GradientChunk> stream) : IChunkWriter
    {
        private readonly GradientChunk _chunk = new();

        public async ValueTask WriteAsync(ChunkHeader header, IChunkData data)
        {
            _chunk.Fill(header, data);
            await stream.WriteAsync(_chunk);
        }
    }
}
