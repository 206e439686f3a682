using System.Text.Json;

namespace LlmPipeline.Models;

/// <summary>The JSON header of a safetensors file, checked: no name twice, every size as the type and shape say, no gap, no overlap.</summary>
internal sealed class SafetensorsHeader
{
    /// <summary>Most bytes of a header, as in the format's own library.</summary>
    public const int MaxLength = 100_000_000;

    /// <summary>The key that is not a tensor.</summary>
    public const string MetadataKey = "__metadata__";

    private const int MaxRank = 32;

    private readonly string _path;

    private SafetensorsHeader(string path) => _path = path;

    public Dictionary<string, SafetensorsTensor> Tensors { get; } = new(StringComparer.Ordinal);

    public Dictionary<string, string> Metadata { get; } = new(StringComparer.Ordinal);

    /// <summary>Parses a header.</summary>
    /// <param name="json">The header, padding included.</param>
    /// <param name="dataLength">Bytes that follow it.</param>
    /// <param name="path">For messages.</param>
    /// <exception cref="InvalidDataException">The header breaks the format.</exception>
    public static SafetensorsHeader Parse(ReadOnlySpan<byte> json, long dataLength, string path)
    {
        var header = new SafetensorsHeader(path);
        try
        {
            var reader = new Utf8JsonReader(json, new JsonReaderOptions { MaxDepth = 4 });
            header.ReadAll(ref reader);
        }
        catch (Exception exception) when (exception is JsonException or InvalidOperationException or FormatException)
        {
            // InvalidOperationException: a string that is not UTF-8, or an escape that is not a character.
            throw new InvalidDataException($"{path}: the safetensors header is not valid JSON: {exception.Message}", exception);
        }

        header.CheckOffsets(dataLength);
        return header;
    }

    private void ReadAll(ref Utf8JsonReader reader)
    {
        Expect(ref reader, JsonTokenType.StartObject, "the header");
        while (Next(ref reader) == JsonTokenType.PropertyName)
        {
            var name = reader.GetString()!;
            if (name == MetadataKey)
            {
                ReadMetadata(ref reader);
            }
            else if (!Tensors.TryAdd(name, ReadTensor(ref reader, name)))
            {
                throw Invalid($"tensor '{name}' is there twice");
            }
        }

        if (reader.Read())
        {
            throw Invalid("there is more after the header's object");
        }
    }

    private void ReadMetadata(ref Utf8JsonReader reader)
    {
        if (Metadata.Count > 0)
        {
            throw Invalid($"{MetadataKey} is there twice");
        }

        Expect(ref reader, JsonTokenType.StartObject, MetadataKey);
        while (Next(ref reader) == JsonTokenType.PropertyName)
        {
            var key = reader.GetString()!;
            Expect(ref reader, JsonTokenType.String, $"{MetadataKey} '{key}'");
            if (!Metadata.TryAdd(key, reader.GetString()!))
            {
                throw Invalid($"{MetadataKey} '{key}' is there twice");
            }
        }
    }

    private SafetensorsTensor ReadTensor(ref Utf8JsonReader reader, string name)
    {
        string? dataType = null;
        long[]? shape = null, offsets = null;
        Expect(ref reader, JsonTokenType.StartObject, $"tensor '{name}'");
        while (Next(ref reader) == JsonTokenType.PropertyName)
        {
            if (reader.ValueTextEquals("dtype"u8) && dataType is null)
            {
                Expect(ref reader, JsonTokenType.String, $"dtype of '{name}'");
                dataType = reader.GetString();
            }
            else if (reader.ValueTextEquals("shape"u8) && shape is null)
            {
                shape = ReadNumbers(ref reader, $"shape of '{name}'");
            }
            else if (reader.ValueTextEquals("data_offsets"u8) && offsets is null)
            {
                offsets = ReadNumbers(ref reader, $"data_offsets of '{name}'");
            }
            else
            {
                throw Invalid($"tensor '{name}' has '{reader.GetString()}' twice, or it is not dtype, shape or data_offsets");
            }
        }

        if (dataType is null || shape is null || offsets is not [var begin, var end] || begin > end)
        {
            throw Invalid($"tensor '{name}' needs dtype, shape and two rising data_offsets");
        }

        var bytes = (UInt128)Width(dataType, name);
        foreach (var size in shape)
        {
            bytes *= (ulong)size;
            if (bytes > long.MaxValue)
            {
                throw Invalid($"tensor '{name}' of shape ({string.Join(", ", shape)}) is larger than any file");
            }
        }

        return bytes == (ulong)(end - begin)
            ? new SafetensorsTensor(dataType, shape, begin, end)
            : throw Invalid($"tensor '{name}', {dataType} of shape ({string.Join(", ", shape)}), needs {bytes} bytes, and its data_offsets give it {end - begin}");
    }

    private long[] ReadNumbers(ref Utf8JsonReader reader, string what)
    {
        Expect(ref reader, JsonTokenType.StartArray, what);
        var numbers = new List<long>(4);
        while (Next(ref reader) == JsonTokenType.Number)
        {
            if (!reader.TryGetInt64(out var number) || number < 0 || numbers.Count == MaxRank)
            {
                throw Invalid($"{what} must be at most {MaxRank} whole numbers of 0 or more");
            }

            numbers.Add(number);
        }

        return reader.TokenType == JsonTokenType.EndArray ? [.. numbers] : throw Invalid($"{what} must be numbers");
    }

    private void CheckOffsets(long dataLength)
    {
        var end = 0L;
        foreach (var (name, tensor) in Tensors.OrderBy(t => t.Value.Begin).ThenBy(t => t.Value.End))
        {
            if (tensor.Begin != end)
            {
                throw Invalid($"the data of tensor '{name}' begins at {tensor.Begin}, and the tensor before it ends at {end}: data must neither overlap nor leave gaps");
            }

            end = tensor.End;
        }

        if (end != dataLength)
        {
            throw Invalid($"its tensors take {end} bytes, and {dataLength} follow the header: the file is cut off, or something was added");
        }
    }

    private int Width(string dataType, string name) => dataType switch
    {
        "BOOL" or "U8" or "I8" or "F8_E4M3" or "F8_E5M2" or "F8_E8M0" => 1,
        "U16" or "I16" or "F16" or "BF16" => 2,
        "U32" or "I32" or "F32" => 4,
        "U64" or "I64" or "F64" or "C64" => 8,
        _ => throw Invalid($"tensor '{name}' has the unknown type '{dataType}'"),
    };

    private static JsonTokenType Next(ref Utf8JsonReader reader) => reader.Read() ? reader.TokenType : JsonTokenType.None;

    private void Expect(ref Utf8JsonReader reader, JsonTokenType type, string what)
    {
        if (Next(ref reader) != type)
        {
            throw Invalid($"{what} must be a JSON {type switch { JsonTokenType.StartObject => "object", JsonTokenType.StartArray => "array", _ => "string" }}");
        }
    }

    private InvalidDataException Invalid(string what) => new($"{_path} is not a valid safetensors file: {what}.");
}
