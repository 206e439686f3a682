using System.Buffers;
using System.Buffers.Binary;
using Grpc.Core;

namespace LlmPipeline.Trainer.Collectives;

/// <summary>Asks the rank before for its chunks of an epoch.</summary>
/// <param name="Epoch">The epoch.</param>
/// <param name="Rank">Rank of the asking worker.</param>
/// <param name="Size">Number of ranks, as it knows it.</param>
internal sealed record PullRequest(long Epoch, int Rank, int Size);

/// <summary>A chunk on its way out; on the way in it is consumed while it is read.</summary>
internal sealed class GradientChunk
{
    public ChunkHeader Header { get; set; }

    public IChunkData? Data { get; set; }
}

/// <summary>Wire format of the gradient stream: raw bytes, because protobuf <c>bytes</c> cost three times the CPU.</summary>
internal static class GradientStream
{
    public const string ServiceName = "llmpipeline.workers.v1.PeerGradientService";

    /// <summary>No message of a gradient stream is larger.</summary>
    public const int MaxMessageBytes = 1024 * 1024;

    private const int RequestBytes = 16;
    private const int BlockBytes = 64 * 1024;

    /// <summary>The call as the server binds it.</summary>
    public static Method<PullRequest, GradientChunk> ServerMethod { get; } = CreateMethod(static _ => throw new NotSupportedException());

    /// <summary>The call with a receiver of its own: <paramref name="accept"/> consumes each message before the next one is read.</summary>
    public static Method<PullRequest, GradientChunk> CreateMethod(Action<ReadOnlySequence<byte>> accept)
    {
        var received = new GradientChunk();
        return new Method<PullRequest, GradientChunk>(
            MethodType.ServerStreaming,
            ServiceName,
            "Pull",
            Marshallers.Create<PullRequest>(WriteRequest, ReadRequest),
            Marshallers.Create(WriteChunk, context =>
            {
                accept(context.PayloadAsReadOnlySequence());
                return received;
            }));
    }

    private static void WriteRequest(PullRequest request, SerializationContext context)
    {
        context.SetPayloadLength(RequestBytes);
        var writer = context.GetBufferWriter();
        var span = writer.GetSpan(RequestBytes);
        BinaryPrimitives.WriteInt64LittleEndian(span, request.Epoch);
        BinaryPrimitives.WriteInt32LittleEndian(span[8..], request.Rank);
        BinaryPrimitives.WriteInt32LittleEndian(span[12..], request.Size);
        writer.Advance(RequestBytes);
        context.Complete();
    }

    private static PullRequest ReadRequest(DeserializationContext context)
    {
        if (context.PayloadLength != RequestBytes)
        {
            throw new RpcException(new Status(StatusCode.InvalidArgument, $"A pull request has {RequestBytes} bytes, this one {context.PayloadLength}."));
        }

        Span<byte> bytes = stackalloc byte[RequestBytes];
        context.PayloadAsReadOnlySequence().CopyTo(bytes);
        return new PullRequest(
            BinaryPrimitives.ReadInt64LittleEndian(bytes),
            BinaryPrimitives.ReadInt32LittleEndian(bytes[8..]),
            BinaryPrimitives.ReadInt32LittleEndian(bytes[12..]));
    }

    private static void WriteChunk(GradientChunk chunk, SerializationContext context)
    {
        var data = chunk.Data!;
        var header = chunk.Header;
        var count = data.ByteCount(header);
        context.SetPayloadLength(ChunkHeader.Size + count);
        var writer = context.GetBufferWriter();
        header.WriteTo(writer.GetSpan(ChunkHeader.Size));
        writer.Advance(ChunkHeader.Size);
        for (var offset = 0; offset < count;)
        {
            var span = writer.GetSpan(Math.Min(BlockBytes, count - offset));
            var length = Math.Min(span.Length, count - offset);
            data.Read(header, offset, span[..length]);
            writer.Advance(length);
            offset += length;
        }

        context.Complete();
    }
}
