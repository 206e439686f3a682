using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace LlmPipeline.Text.Shards;

/// <summary>Encoded documents, ready to be written.</summary>
/// <param name="Bytes">Ids as they lie in shards.</param>
/// <param name="DocumentTokens">Number of ids of each document.</param>
/// <param name="TextBytes">UTF-8 bytes of the text.</param>
/// <param name="TextCharacters">Code points of the text.</param>
/// <param name="Unknown">What the ids do not say.</param>
internal sealed record EncodedBatch(byte[] Bytes, int[] DocumentTokens, long TextBytes, long TextCharacters, UnknownText Unknown = default)
{
    /// <summary>Bytes an id takes: 2 for vocabularies of up to 65,536 ids, else 4.</summary>
    public static int BytesPerToken(int vocabularySize) => vocabularySize <= 1 << 16 ? sizeof(ushort) : sizeof(uint);

    /// <summary>Lays ids out as little-endian uint16 or uint32.</summary>
    public static byte[] Pack(ReadOnlySpan<int> ids, int bytesPerToken)
    {
        var bytes = new byte[(long)ids.Length * bytesPerToken];
        if (bytesPerToken == sizeof(ushort))
        {
            var packed = MemoryMarshal.Cast<byte, ushort>(bytes.AsSpan());
            for (var i = 0; i < ids.Length; i++)
            {
                var id = checked((ushort)ids[i]);
                packed[i] = BitConverter.IsLittleEndian ? id : BinaryPrimitives.ReverseEndianness(id);
            }
        }
        else
        {
            var packed = MemoryMarshal.Cast<byte, int>(bytes.AsSpan());
            for (var i = 0; i < ids.Length; i++)
            {
                packed[i] = BitConverter.IsLittleEndian ? ids[i] : BinaryPrimitives.ReverseEndianness(ids[i]);
            }
        }

        return bytes;
    }
}
