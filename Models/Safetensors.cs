namespace LlmPipeline.Models;

/// <summary>The safetensors format: 8 bytes of header length, a JSON header, raw little-endian data.</summary>
public static class Safetensors
{
    /// <summary>Writes fp32 tensors.</summary>
    public static Task WriteAsync(Stream stream, IReadOnlyList<SafetensorsEntry> tensors, IReadOnlyDictionary<string, string>? metadata = null, CancellationToken cancellationToken = default)
        => throw new NotImplementedException();
}

/// <summary>A tensor to write.</summary>
/// <param name="Name">Its key.</param>
/// <param name="Shape">Its sizes.</param>
/// <param name="Copy">Copies elements from an offset on into a buffer.</param>
public sealed record SafetensorsEntry(string Name, IReadOnlyList<long> Shape, SafetensorsCopy Copy);

/// <summary>Copies elements of a tensor, from <paramref name="offset"/> on, so that the whole of <paramref name="destination"/> is filled.</summary>
public delegate void SafetensorsCopy(long offset, Span<float> destination);

/// <summary>An open safetensors file. The header is validated before anything is allocated; hostile files are refused.</summary>
public sealed class SafetensorsFile : IDisposable
{
    /// <summary>Opens a file and validates its header.</summary>
    /// <exception cref="InvalidDataException">The file breaks the format; the message says how.</exception>
    public static SafetensorsFile Open(string path) => throw new NotImplementedException();

    /// <summary>The tensors by name.</summary>
    public IReadOnlyDictionary<string, SafetensorsTensor> Tensors => throw new NotImplementedException();

    /// <summary>The <c>__metadata__</c> entries.</summary>
    public IReadOnlyDictionary<string, string> Metadata => throw new NotImplementedException();

    /// <summary>Reads a tensor as fp32 (from F32, F16, BF16 or F64); <paramref name="destination"/> has exactly its number of elements.</summary>
    public void Read(string name, Span<float> destination) => throw new NotImplementedException();

    /// <inheritdoc/>
    public void Dispose() => throw new NotImplementedException();
}

/// <summary>A tensor in a file.</summary>
/// <param name="DataType">"F32", "F16", "BF16", ...</param>
/// <param name="Shape">Its sizes.</param>
/// <param name="Begin">First byte, from the end of the header on.</param>
/// <param name="End">Byte after the last.</param>
public sealed record SafetensorsTensor(string DataType, IReadOnlyList<long> Shape, long Begin, long End);
