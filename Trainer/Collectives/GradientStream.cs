using System.Buffers.Binary;
using Grpc.Core;

namespace LlmPipeline.Trainer.Collectives;

/// <summary>Asks the rank before for its chunks of an epoch.</summary>
/// <param name="Epoch">The epoch.</param>
/// <param name="Rank">Rank of the asking worker.</param>
/// <param name="Size">Number of ranks, as it knows it.</param>
internal sealed record PullRequest(long Epoch, int Rank, int Size);

/// <summary>A chunk on its way out.</summary>
internal sealed class GradientChunk
{
    private byte[] _bytes = [];
    private int _length;

    /// <summary>Header and elements.</summary>
    public ReadOnlySpan<byte> Bytes => _bytes.AsSpan(0, _length);

    /// <summary>Becomes another chunk.</summary>
    public void Fill(in ChunkHeader header, IChunkData data)
    {
        var needed = ChunkHeader.Size + data.MaxBytes(header);
        if (_bytes.Length < needed)
        {
            _bytes = GC.AllocateUninitializedArray<byte>(needed);
        }

        header.WriteTo(_bytes);
        _length = ChunkHeader.Size + data.Write(header, _bytes.AsSpan(ChunkHeader.Size));
    }
}

/// <summary>Wire format of the gradient stream: raw bytes, because protobuf <c>bytes</c> cost three times the CPU.</summary>
internal static class GradientStream
{
    public const string ServiceName = "llmpipeline.workers.v1.PeerGradientService";

    /// <summary>The call's path.</summary>
    public const string PullPath = $"/{ServiceName}/Pull";

    /// <summary>No message of a gradient stream is larger.</summary>
    public const int MaxMessageBytes = 1024 * 1024;

    private const int RequestBytes = 16;
    private const int BlockBytes = 64 * 1024;

    /// <summary>The call as the server binds it.</summary>
    public static Method<PullRequest, GradientChunk> ServerMethod { get; } = new(
        MethodType.ServerStreaming,
        ServiceName,
        "Pull",
        Marshallers.Create<PullRequest>((request, context) => context.Complete(Encode(request)), ReadRequest),
        Marshallers.Create<GradientChunk>(WriteChunk, static _ => throw new NotSupportedException()));

    /// <summary>A request as it is sent.</summary>
    public static byte[] Encode(PullRequest request)
    {
        var bytes = new byte[RequestBytes];
        BinaryPrimitives.WriteInt64LittleEndian(bytes, request.Epoch);
        BinaryPrimitives.WriteInt32LittleEndian(bytes.AsSpan(8), request.Rank);
        BinaryPrimitives.WriteInt32LittleEndian(bytes.AsSpan(12), request.Size);
        return bytes;
    }

    /// <summary>Reads a request; false when these bytes are none.</summary>
    public static bool TryDecode(ReadOnlySpan<byte> bytes, out PullRequest request)
    {
        var fits = bytes.Length == RequestBytes;
        request = !fits ? new PullRequest(0, 0, 0) : new PullRequest(
            BinaryPrimitives.ReadInt64LittleEndian(bytes),
            BinaryPrimitives.ReadInt32LittleEndian(bytes[8..]),
            BinaryPrimitives.ReadInt32LittleEndian(bytes[12..]));
        return fits;
    }

    private static PullRequest ReadRequest(DeserializationContext context) => TryDecode(context.PayloadAsNewBuffer(), out var request) ? request
        : throw new RpcException(new Status(StatusCode.InvalidArgument, $"A pull request has {RequestBytes} bytes, this one {context.PayloadLength}."));

    private static void WriteChunk(GradientChunk chunk, SerializationContext context)
    {
        var bytes = chunk.Bytes;
        context.SetPayloadLength(bytes.Length);
        var writer = context.GetBufferWriter();
        while (bytes.Length > 0)
        {
            var span = writer.GetSpan(Math.Min(BlockBytes, bytes.Length));
            var length = Math.Min(span.Length, bytes.Length);
            bytes[..length].CopyTo(span);
            writer.Advance(length);
            bytes = bytes[length..];
        }

        context.Complete();
    }
}
