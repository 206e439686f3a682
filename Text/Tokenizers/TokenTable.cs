using System.Buffers;
using System.Security.Cryptography;
using System.Text;

namespace LlmPipeline.Text;

/// <summary>The bytes that each id stands for.</summary>
/// <param name="bytes">By id; empty for special tokens.</param>
internal sealed class TokenTable(byte[][] bytes)
{
    /// <summary>Number of ids.</summary>
    public int Count => bytes.Length;

    /// <summary>The bytes of an id.</summary>
    /// <exception cref="ArgumentOutOfRangeException">There is no such id.</exception>
    public byte[] BytesOf(int id) => (uint)id < (uint)bytes.Length
        ? bytes[id]
        : throw new ArgumentOutOfRangeException(nameof(id), $"{id} is not an id: the vocabulary has ids 0 to {bytes.Length - 1}.");

    /// <summary>Decodes ids; invalid UTF-8 becomes U+FFFD.</summary>
    public string Decode(ReadOnlySpan<int> ids)
    {
        var length = 0;
        foreach (var id in ids)
        {
            length = checked(length + BytesOf(id).Length);
        }

        var buffer = ArrayPool<byte>.Shared.Rent(length);
        var written = 0;
        foreach (var id in ids)
        {
            bytes[id].CopyTo(buffer, written);
            written += bytes[id].Length;
        }

        var text = Encoding.UTF8.GetString(buffer, 0, written);
        ArrayPool<byte>.Shared.Return(buffer);
        return text;
    }

    /// <summary>SHA-256 of a file's text, lower-case hexadecimal.</summary>
    public static string HashOf(string json) => Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(json)));
}
