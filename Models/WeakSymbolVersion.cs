using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Runtime.Versioning;
using System.Text;

namespace LlmPipeline.Models;

/// <summary>
/// Loads TorchSharp's native library where the system's libstdc++ is older than GCC 13's (Debian 12, Ubuntu 22.04, RHEL 9).
/// </summary>
/// <remarks>
/// The library asks for symbol version GLIBCXX_3.4.32, but the one symbol behind it (<c>std::ios_base_library_init()</c>) is
/// used by no relocation, so a copy of the file in which that requirement is marked weak (VER_FLG_WEAK in .gnu.version_r: one
/// bit) loads and works. The package's own file stays as it is.
/// </remarks>
[SupportedOSPlatform("linux")]
internal static class WeakSymbolVersion
{
    /// <summary>The version that older systems lack.</summary>
    public const string Name = "GLIBCXX_3.4.32";

    /// <summary>The one symbol of that version.</summary>
    public const string Symbol = "_ZSt21ios_base_library_initv";

    private const uint SectionVersionNeeds = 0x6ffffffe;
    private const ushort FlagWeak = 2;

    /// <summary>Loads a copy with the requirement marked weak.</summary>
    public static nint LoadCopy(string source)
    {
        var image = File.ReadAllBytes(source);
        return TryWeaken(image, Name)
            ? GeneratedLibrary.Load(Path.GetFileName(source), image, NativeLibrary.Load)
            : throw new DllNotFoundException($"{source} needs {Name}, and the requirement was not found in its version table. A newer libstdc++ (GCC 13 or later) cures it.");
    }

    /// <summary>Marks the requirement of a symbol version in an ELF image weak; false when the image is not such a file or does not have it.</summary>
    public static bool TryWeaken(Span<byte> image, string version)
    {
        // ELF64, little-endian.
        if (image.Length < 64 || !image.StartsWith("\u007fELF\u0002\u0001"u8))
        {
            return false;
        }

        try
        {
            var sections = checked((int)U64(image, 0x28));
            int sectionSize = U16(image, 0x3a), sectionCount = U16(image, 0x3c);
            for (var i = 0; i < sectionCount; i++)
            {
                var header = sections + (i * sectionSize);
                if (U32(image, header + 4) == SectionVersionNeeds)
                {
                    var strings = sections + ((int)U32(image, header + 0x28) * sectionSize);
                    return TryWeakenNeeds(
                        image, checked((int)U64(image, header + 0x18)), U32(image, header + 0x2c), checked((int)U64(image, strings + 0x18)), version);
                }
            }
        }
        catch (Exception exception) when (exception is ArgumentOutOfRangeException or OverflowException)
        {
            // Tables that point outside of the image.
        }

        return false;
    }

    // Verneed: version u16, count u16, file u32, aux u32, next u32. Vernaux: hash u32, flags u16, other u16, name u32, next u32.
    private static bool TryWeakenNeeds(Span<byte> image, int need, uint needCount, int strings, string version)
    {
        var found = false;
        for (var n = 0; n < needCount; n++)
        {
            var aux = need + (int)U32(image, need + 8);
            for (var a = 0; a < U16(image, need + 2); a++)
            {
                var name = image[(strings + (int)U32(image, aux + 8))..];
                if (Encoding.ASCII.GetString(name[..name.IndexOf((byte)0)]) == version)
                {
                    BinaryPrimitives.WriteUInt16LittleEndian(image[(aux + 4)..], (ushort)(U16(image, aux + 4) | FlagWeak));
                    found = true;
                }

                aux += (int)U32(image, aux + 12);
            }

            need += (int)U32(image, need + 12);
        }

        return found;
    }

    private static ushort U16(ReadOnlySpan<byte> image, int offset) => BinaryPrimitives.ReadUInt16LittleEndian(image[offset..]);

    private static uint U32(ReadOnlySpan<byte> image, int offset) => BinaryPrimitives.ReadUInt32LittleEndian(image[offset..]);

    private static ulong U64(ReadOnlySpan<byte> image, int offset) => BinaryPrimitives.ReadUInt64LittleEndian(image[offset..]);
}
