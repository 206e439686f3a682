using System.Buffers;
using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace LlmPipeline.Models;

/// <summary>An open safetensors file. The header is validated before anything is allocated; hostile files are refused.</summary>
public sealed class SafetensorsFile : IDisposable
{
    private const int BufferBytes = 1 << 20;

    private readonly string _path;
    private readonly SafeFileHandle _file;
    private readonly long _dataStart;

    private SafetensorsFile(string path, SafeFileHandle file, long dataStart, SafetensorsHeader header)
    {
        _path = path;
        _file = file;
        _dataStart = dataStart;
        Tensors = header.Tensors;
        Metadata = header.Metadata;
    }

    /// <summary>Opens a file and validates its header.</summary>
    /// <exception cref="InvalidDataException">The file breaks the format; the message says how.</exception>
    public static SafetensorsFile Open(string path)
    {
        var file = File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.Read);
        try
        {
            var length = RandomAccess.GetLength(file);
            Span<byte> prefix = stackalloc byte[sizeof(ulong)];
            ReadExactly(file, prefix, 0, path);
            var headerLength = BinaryPrimitives.ReadUInt64LittleEndian(prefix);
            if (headerLength > SafetensorsHeader.MaxLength || (long)headerLength > length - sizeof(ulong))
            {
                throw new InvalidDataException(
                    $"{path} is not a safetensors file, or is cut off: its header would have {headerLength} bytes; the file has {length}, and {SafetensorsHeader.MaxLength} are allowed.");
            }

            var header = new byte[(int)headerLength];
            ReadExactly(file, header, sizeof(ulong), path);
            var dataStart = sizeof(ulong) + (long)headerLength;
            return new SafetensorsFile(path, file, dataStart, SafetensorsHeader.Parse(header, length - dataStart, path));
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>The tensors by name.</summary>
    public IReadOnlyDictionary<string, SafetensorsTensor> Tensors { get; }

    /// <summary>The <c>__metadata__</c> entries.</summary>
    public IReadOnlyDictionary<string, string> Metadata { get; }

    /// <summary>Reads a tensor as fp32 (from F32, F16, BF16 or F64); <paramref name="destination"/> has exactly its number of elements.</summary>
    /// <exception cref="KeyNotFoundException">There is no tensor of this name.</exception>
    /// <exception cref="InvalidDataException">The tensor holds something else than floating-point numbers.</exception>
    public void Read(string name, Span<float> destination)
    {
        if (!Tensors.TryGetValue(name, out var tensor))
        {
            throw new KeyNotFoundException($"{_path} has no tensor '{name}'.");
        }

        var width = tensor.DataType switch
        {
            "F64" => 8,
            "F32" => 4,
            "F16" or "BF16" => 2,
            _ => throw new InvalidDataException($"Tensor '{name}' of {_path} is of type {tensor.DataType}; F32, F16, BF16 and F64 can be read."),
        };
        if (tensor.End - tensor.Begin != (long)destination.Length * width)
        {
            throw new ArgumentException($"Tensor '{name}' has {(tensor.End - tensor.Begin) / width} elements; there is room for {destination.Length}.", nameof(destination));
        }

        var buffer = ArrayPool<byte>.Shared.Rent(BufferBytes);
        try
        {
            var position = _dataStart + tensor.Begin;
            while (!destination.IsEmpty)
            {
                var elements = Math.Min(destination.Length, BufferBytes / width);
                var bytes = buffer.AsSpan(0, elements * width);
                ReadExactly(_file, bytes, position, _path);
                Convert(bytes, tensor.DataType, destination[..elements]);
                position += bytes.Length;
                destination = destination[elements..];
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _file.Dispose();

    private static void Convert(ReadOnlySpan<byte> bytes, string dataType, Span<float> destination)
    {
        if (dataType == "F32" && BitConverter.IsLittleEndian)
        {
            bytes.CopyTo(MemoryMarshal.AsBytes(destination));
            return;
        }

        for (var i = 0; i < destination.Length; i++)
        {
            destination[i] = dataType switch
            {
                "F64" => (float)BinaryPrimitives.ReadDoubleLittleEndian(bytes[(8 * i)..]),
                "F32" => BinaryPrimitives.ReadSingleLittleEndian(bytes[(4 * i)..]),
                "F16" => (float)BinaryPrimitives.ReadHalfLittleEndian(bytes[(2 * i)..]),
                _ => BitConverter.UInt32BitsToSingle((uint)BinaryPrimitives.ReadUInt16LittleEndian(bytes[(2 * i)..]) << 16),
            };
        }
    }

    private static void ReadExactly(SafeFileHandle file, Span<byte> buffer, long position, string path)
    {
        while (!buffer.IsEmpty)
        {
            var count = RandomAccess.Read(file, buffer, position);
            if (count == 0)
            {
                throw new InvalidDataException($"{path} is cut off after {position} bytes.");
            }

            buffer = buffer[count..];
            position += count;
        }
    }
}

/// <summary>A tensor in a file.</summary>
/// <param name="DataType">"F32", "F16", "BF16", ...</param>
/// <param name="Shape">Its sizes.</param>
/// <param name="Begin">First byte, from the end of the header on.</param>
/// <param name="End">Byte after the last.</param>
public sealed record SafetensorsTensor(string DataType, IReadOnlyList<long> Shape, long Begin, long End);
