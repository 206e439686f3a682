using System.Buffers;
using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text.Json;

namespace LlmPipeline.Models;

/// <summary>The safetensors format: 8 bytes of header length, a JSON header, raw little-endian data.</summary>
public static class Safetensors
{
    private const int ChunkElements = 1 << 18;

    /// <summary>Writes fp32 tensors.</summary>
    /// <exception cref="ArgumentException">Two tensors have the same name, or a size is negative.</exception>
    public static async Task WriteAsync(Stream stream, IReadOnlyList<SafetensorsEntry> tensors, IReadOnlyDictionary<string, string>? metadata = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(stream);
        ArgumentNullException.ThrowIfNull(tensors);
        await stream.WriteAsync(Header(tensors, metadata), cancellationToken).ConfigureAwait(false);

        var buffer = ArrayPool<byte>.Shared.Rent(ChunkElements * sizeof(float));
        try
        {
            foreach (var tensor in tensors)
            {
                var length = tensor.Length;
                for (long offset = 0; offset < length; offset += ChunkElements)
                {
                    var bytes = (int)Math.Min(ChunkElements, length - offset) * sizeof(float);
                    Fill(tensor, offset, buffer.AsSpan(0, bytes));
                    await stream.WriteAsync(buffer.AsMemory(0, bytes), cancellationToken).ConfigureAwait(false);
                }
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    private static void Fill(SafetensorsEntry tensor, long offset, Span<byte> bytes)
    {
        var values = MemoryMarshal.Cast<byte, float>(bytes);
        tensor.Copy(offset, values);
        if (!BitConverter.IsLittleEndian)
        {
            var words = MemoryMarshal.Cast<byte, uint>(bytes);
            BinaryPrimitives.ReverseEndianness(words, words);
        }
    }

    // The header is padded with spaces, so that the data begins on a multiple of 8 bytes.
    private static ReadOnlyMemory<byte> Header(IReadOnlyList<SafetensorsEntry> tensors, IReadOnlyDictionary<string, string>? metadata)
    {
        var buffer = new ArrayBufferWriter<byte>();
        buffer.Write(stackalloc byte[sizeof(ulong)]);
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartObject();
            if (metadata is { Count: > 0 })
            {
                json.WriteStartObject(SafetensorsHeader.MetadataKey);
                foreach (var (key, value) in metadata)
                {
                    json.WriteString(key, value);
                }

                json.WriteEndObject();
            }

            var names = new HashSet<string>(StringComparer.Ordinal) { SafetensorsHeader.MetadataKey };
            long begin = 0;
            foreach (var tensor in tensors)
            {
                if (!names.Add(tensor.Name))
                {
                    throw new ArgumentException($"Two tensors are named '{tensor.Name}'.", nameof(tensors));
                }

                var end = checked(begin + (tensor.Length * sizeof(float)));
                json.WriteStartObject(tensor.Name);
                json.WriteString("dtype", "F32");
                json.WriteStartArray("shape");
                foreach (var size in tensor.Shape)
                {
                    json.WriteNumberValue(size);
                }

                json.WriteEndArray();
                json.WriteStartArray("data_offsets");
                json.WriteNumberValue(begin);
                json.WriteNumberValue(end);
                json.WriteEndArray();
                json.WriteEndObject();
                begin = end;
            }

            json.WriteEndObject();
        }

        var padding = -buffer.WrittenCount & 7;
        buffer.Write("        "u8[..padding]);
        var header = buffer.WrittenSpan.ToArray();
        BinaryPrimitives.WriteUInt64LittleEndian(header, (ulong)(header.Length - sizeof(ulong)));
        return header;
    }
}

/// <summary>A tensor to write.</summary>
/// <param name="Name">Its key.</param>
/// <param name="Shape">Its sizes.</param>
/// <param name="Copy">Copies elements from an offset on into a buffer.</param>
public sealed record SafetensorsEntry(string Name, IReadOnlyList<long> Shape, SafetensorsCopy Copy)
{
    /// <summary>Number of elements.</summary>
    public long Length => Shape.Aggregate(1L, (product, size) => size >= 0 ? checked(product * size) : throw new ArgumentException($"'{Name}' has a negative size, {size}."));
}

/// <summary>Copies elements of a tensor, from <paramref name="offset"/> on, so that the whole of <paramref name="destination"/> is filled.</summary>
public delegate void SafetensorsCopy(long offset, Span<float> destination);
