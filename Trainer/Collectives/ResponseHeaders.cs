using System.Globalization;
using System.Text;

namespace LlmPipeline.Trainer.Collectives;

/// <summary>Reads gRPC's status out of a header block (HPACK, RFC 7541) that was written without a dynamic table.</summary>
internal static class ResponseHeaders
{
    /// <summary>Status and message; null where the block has none that can be read.</summary>
    /// <exception cref="InvalidDataException">It is no header block.</exception>
    public static (int? Status, string? Message) Status(ReadOnlySpan<byte> block)
    {
        int? status = null;
        string? message = null;
        while (block.Length > 0)
        {
            var first = block[0];
            if (first >= 0x80)
            {
                Integer(ref block, 7);
                continue;
            }

            if (first is >= 0x20 and < 0x40)
            {
                Integer(ref block, 5);
                continue;
            }

            var name = Integer(ref block, first >= 0x40 ? 6 : 4) == 0 ? Text(ref block) : "";
            var value = Text(ref block);
            if (name == "grpc-status" && int.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out var number))
            {
                status = number;
            }
            else if (name == "grpc-message" && value is not null)
            {
                message = Uri.UnescapeDataString(value);
            }
        }

        return (status, message);
    }

    private static int Integer(ref ReadOnlySpan<byte> block, int bits)
    {
        var mask = (1 << bits) - 1;
        var value = Next(ref block) & mask;
        if (value < mask)
        {
            return value;
        }

        for (var shift = 0; shift < 21; shift += 7)
        {
            var more = Next(ref block);
            value += (more & 0x7F) << shift;
            if (more < 0x80)
            {
                return value;
            }
        }

        throw new InvalidDataException("a header with a number that is too large");
    }

    // Null for text in Huffman's code, which servers of gRPC on .NET do not write.
    private static string? Text(ref ReadOnlySpan<byte> block)
    {
        var isCoded = block.Length > 0 && block[0] >= 0x80;
        var length = Integer(ref block, 7);
        if (length > block.Length)
        {
            throw new InvalidDataException("a header block that is cut off");
        }

        var text = isCoded ? null : Encoding.UTF8.GetString(block[..length]);
        block = block[length..];
        return text;
    }

    private static int Next(ref ReadOnlySpan<byte> block)
    {
        if (block.Length == 0)
        {
            throw new InvalidDataException("a header block that is cut off");
        }

        var first = block[0];
        block = block[1..];
        return first;
    }
}
