using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.RegularExpressions;

namespace LlmPipeline.Models;

/// <summary>
/// What a native library wants from others. C++ names hold the types of all arguments, so a function whose signature another
/// version of libtorch has changed is missing there, and seen before it is called.
/// </summary>
internal static partial class ImportedSymbols
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

    /// <summary>A C++ function's name without its parameters (Itanium ABI, nested names); any other name as it is.</summary>
    public static string Readable(string name)
    {
        var parts = NestedName().Match(name);
        if (!parts.Success)
        {
            return name;
        }

        var words = new List<string>();
        var rest = name.AsSpan(parts.Length);
        while (rest.Length > 0 && char.IsAsciiDigit(rest[0]))
        {
            var digits = rest.IndexOfAnyExceptInRange('0', '9');
            if (digits < 0 || !int.TryParse(rest[..digits], out var length) || length > rest.Length - digits)
            {
                return name;
            }

            words.Add(rest.Slice(digits, length).ToString());
            rest = rest[(digits + length)..];
        }

        return words.Count > 0 ? string.Join("::", words) : name;
    }

    // A member function may be const: K.
    [GeneratedRegex("^_ZNK?(?=[0-9])")]
    private static partial Regex NestedName();

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
