using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;

namespace LlmPipeline.Models;

/// <summary>
/// What a native library wants from others. C++ names hold the types of all arguments, so a function whose signature another
/// version of libtorch has changed is missing there, and seen before it is called.
/// </summary>
internal static class ImportedSymbols
{
    private const uint SectionDynamicSymbols = 11;
    private const int Global = 1;

    /// <summary>Names that an ELF image (64 bits, little-endian) needs and does not define; weak ones left out.</summary>
    /// <exception cref="InvalidDataException">The image is no such file.</exception>
    public static IReadOnlyList<string> Of(ReadOnlySpan<byte> image)
    {
        try
        {
            if (image.StartsWith("\u007fELF\u0002\u0001"u8))
            {
                var sections = checked((int)U64(image, 0x28));
                int sectionSize = U16(image, 0x3a), sectionCount = U16(image, 0x3c);
                for (var i = 0; i < sectionCount; i++)
                {
                    var header = sections + (i * sectionSize);
                    if (U32(image, header + 4) == SectionDynamicSymbols)
                    {
                        var strings = sections + ((int)U32(image, header + 0x28) * sectionSize);
                        var symbols = image.Slice(checked((int)U64(image, header + 0x18)), checked((int)U64(image, header + 0x20)));
                        return Undefined(symbols, image[checked((int)U64(image, strings + 0x18))..]);
                    }
                }
            }
        }
        catch (Exception exception) when (exception is ArgumentOutOfRangeException or OverflowException)
        {
            // Tables that point outside of the image.
        }

        throw new InvalidDataException("The library is no ELF file with dynamic symbols.");
    }

    /// <summary>Those of the names that a loaded library and those it needs do not have.</summary>
    public static IReadOnlyList<string> Missing(IEnumerable<string> names, params IReadOnlyList<nint> libraries) =>
        [.. names.Where(name => !libraries.Any(library => NativeLibrary.TryGetExport(library, name, out _)))];

    // Elf64_Sym, 24 bytes: name u32, info u8, other u8, section u16, value u64, size u64.
    private static List<string> Undefined(ReadOnlySpan<byte> symbols, ReadOnlySpan<byte> strings)
    {
        var names = new List<string>();
        for (; symbols.Length >= 24; symbols = symbols[24..])
        {
            if (U16(symbols, 6) == 0 && symbols[4] >> 4 == Global)
            {
                var name = strings[(int)U32(symbols, 0)..];
                names.Add(Encoding.ASCII.GetString(name[..name.IndexOf((byte)0)]));
            }
        }

        return names;
    }

    private static ushort U16(ReadOnlySpan<byte> image, int offset) => BinaryPrimitives.ReadUInt16LittleEndian(image[offset..]);

    private static uint U32(ReadOnlySpan<byte> image, int offset) => BinaryPrimitives.ReadUInt32LittleEndian(image[offset..]);

    private static ulong U64(ReadOnlySpan<byte> image, int offset) => BinaryPrimitives.ReadUInt64LittleEndian(image[offset..]);
}
