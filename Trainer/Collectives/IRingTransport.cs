using System.Buffers.Binary;

namespace LlmPipeline.Trainer.Collectives;

/// <summary>Carries chunks around a ring: out to the next rank, in from the one before. After the first failure nothing works any more.</summary>
internal interface IRingTransport
{
    /// <summary>This worker's rank.</summary>
    int Rank { get; }

    /// <summary>Number of ranks; at least 2.</summary>
    int Size { get; }

    /// <summary>The epoch that the ring belongs to.</summary>
    long Epoch { get; }

    /// <summary>Sends a chunk to the next rank. Its elements are read before the task completes.</summary>
    /// <exception cref="RingBrokenException">The ring does not work any more.</exception>
    Task SendAsync(ChunkHeader header, IChunkData data);

    /// <summary>Receives the next chunk from the rank before, which has to be the expected one, and gives it to <paramref name="data"/>.</summary>
    /// <exception cref="RingBrokenException">The ring does not work any more, or another chunk came.</exception>
    Task ReceiveAsync(ChunkHeader expected, IChunkData data);

    /// <summary>Breaks the ring for all its members; pending calls fail.</summary>
    void Abort();
}

/// <summary>The stream that the next rank has asked for.</summary>
internal interface IChunkWriter
{
    /// <summary>Sends a chunk. Its elements are read before the task completes.</summary>
    /// <exception cref="IOException">The connection broke.</exception>
    ValueTask WriteAsync(ChunkHeader header, IChunkData data);
}

/// <summary>Where chunks come from and go to.</summary>
internal interface IChunkData
{
    /// <summary>Room that <see cref="Write"/> wants for a chunk.</summary>
    int MaxBytes(in ChunkHeader header);

    /// <summary>Writes a chunk's elements.</summary>
    /// <returns>Bytes that were written.</returns>
    int Write(in ChunkHeader header, Span<byte> destination);

    /// <summary>Takes the bytes of a received chunk.</summary>
    /// <exception cref="InvalidDataException">They are not those of such a chunk.</exception>
    void Accept(in ChunkHeader header, ReadOnlySpan<byte> bytes);
}

/// <summary>Says what a chunk is. 40 bytes, little-endian, before the elements.</summary>
/// <param name="Epoch">The epoch that it belongs to.</param>
/// <param name="Step">The step.</param>
/// <param name="Bucket">Which buffer of the step, see <see cref="Buckets"/>.</param>
/// <param name="Stage">Hop of the ring: 0 to size - 2 carry sums, size - 1 to 2 size - 3 results.</param>
/// <param name="Offset">First element, within the whole buffer.</param>
/// <param name="Count">Number of elements.</param>
/// <param name="Format">How its elements are summed and sent.</param>
internal readonly record struct ChunkHeader(long Epoch, long Step, int Bucket, int Stage, long Offset, int Count, ExchangeFormat Format = default)
{
    /// <summary>Bytes of a header.</summary>
    public const int Size = 40;

    private const uint Magic = 0x32474C4C; // "LLG2"

    /// <summary>Writes the header.</summary>
    public void WriteTo(Span<byte> destination)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(destination, Magic);
        BinaryPrimitives.WriteInt16LittleEndian(destination[4..], (short)Bucket);
        destination[6] = (byte)Format.Mode;
        destination[7] = (byte)Format.Wire;
        BinaryPrimitives.WriteInt64LittleEndian(destination[8..], Epoch);
        BinaryPrimitives.WriteInt64LittleEndian(destination[16..], Step);
        BinaryPrimitives.WriteInt64LittleEndian(destination[24..], Offset);
        BinaryPrimitives.WriteInt32LittleEndian(destination[32..], Stage);
        BinaryPrimitives.WriteInt32LittleEndian(destination[36..], Count);
    }

    /// <summary>Reads a header; false when these bytes are none.</summary>
    public static bool TryRead(ReadOnlySpan<byte> bytes, out ChunkHeader header)
    {
        header = default;
        if (bytes.Length < Size)
        {
            return false;
        }

        header = new ChunkHeader(
            BinaryPrimitives.ReadInt64LittleEndian(bytes[8..]),
            BinaryPrimitives.ReadInt64LittleEndian(bytes[16..]),
            BinaryPrimitives.ReadInt16LittleEndian(bytes[4..]),
            BinaryPrimitives.ReadInt32LittleEndian(bytes[32..]),
            BinaryPrimitives.ReadInt64LittleEndian(bytes[24..]),
            BinaryPrimitives.ReadInt32LittleEndian(bytes[36..]),
            new ExchangeFormat((SumMode)bytes[6], (WireFormat)bytes[7]));
        return BinaryPrimitives.ReadUInt32LittleEndian(bytes) == Magic;
    }
}

/// <summary>The buffers of a step.</summary>
internal static class Buckets
{
    /// <summary>Agreement at the begin of an epoch.</summary>
    public const int Entry = 0;

    /// <summary>Gradients, losses and votes of a step.</summary>
    public const int Gradients = 1;

    /// <summary>Losses of a validation.</summary>
    public const int Validation = 2;

    /// <summary>The precision of a run, once.</summary>
    public const int Precision = 3;

    /// <summary>The step that training goes back to.</summary>
    public const int Rollback = 4;

    /// <summary>The position that members without state, or with another one, take over.</summary>
    public const int Position = 5;

    /// <summary>Votes, losses and norms of a round of low-communication training.</summary>
    public const int Round = 6;

    /// <summary>Its outer gradient.</summary>
    public const int OuterGradient = 7;

    /// <summary>Scales of its outer gradient and its optimizer state, where they are sent as whole numbers.</summary>
    public const int OuterScales = 8;

    /// <summary>Its optimizer state: the first buffer; the others follow.</summary>
    public const int OuterState = 9;
}

/// <summary>The ring does not work any more: this epoch is over for this worker.</summary>
/// <param name="message">What happened.</param>
/// <param name="suspectRank">The rank whose connection failed; -1 when a peer only passed on that the ring is broken.</param>
/// <param name="inner">The cause.</param>
internal sealed class RingBrokenException(string message, int suspectRank = -1, Exception? inner = null) : Exception(message, inner)
{
    /// <summary>The rank whose connection failed, or -1.</summary>
    public int SuspectRank { get; } = suspectRank;
}
