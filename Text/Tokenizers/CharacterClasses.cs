using System.Globalization;
using System.Runtime.CompilerServices;

namespace LlmPipeline.Text;

/// <summary>The classes of characters that split patterns tell apart, one bit each, and runs of them in UTF-8.</summary>
internal static class CharacterClasses
{
    /// <summary><c>\p{L}</c>.</summary>
    public const byte Letter = 1;

    /// <summary><c>\p{M}</c>.</summary>
    public const byte Mark = 2;

    /// <summary><c>\p{N}</c>.</summary>
    public const byte Number = 4;

    /// <summary><c>\s</c>.</summary>
    public const byte Space = 8;

    /// <summary>Carriage return and line feed; <see cref="Space"/> is set too.</summary>
    public const byte NewLine = 16;

    /// <summary>What joins letters into a word without being one: Tibetan tsheg (U+0F0B, U+0F0C), zero width (non-)joiner.</summary>
    public const byte Joiner = 32;

    /// <summary>Everything else.</summary>
    public const byte Other = 64;

    /// <summary><c>[^\s\p{L}\p{N}]</c>.</summary>
    public const byte Symbols = Mark | Joiner | Other;

    private static readonly byte[] ClassOfChar = MakeClasses();

    // By byte; 0 for the bytes of longer characters.
    private static readonly byte[] ClassOfByte = [.. ClassOfChar.Take(128), .. new byte[128]];

    /// <summary>The class of the character at a place of valid UTF-8, and its length in bytes.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static byte At(ReadOnlySpan<byte> utf8, int i, out int length)
    {
        var value = ClassOfByte[utf8[i]];
        if (value != 0)
        {
            length = 1;
            return value;
        }

        return AtLong(utf8, i, out length);
    }

    /// <summary>Where the run of characters of some classes that begins at a place ends.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int RunEnd(ReadOnlySpan<byte> utf8, int i, byte classes)
    {
        while ((uint)i < (uint)utf8.Length && (At(utf8, i, out var length) & classes) != 0)
        {
            i += length;
        }

        return i;
    }

    /// <summary>
    /// A cut that all known patterns allow: after a letter that no letter, mark or joiner follows. A match that holds a letter ends there
    /// in each of them, and none looks back.
    /// </summary>
    public static int LastCutAfterLetter(ReadOnlySpan<byte> utf8)
    {
        byte next = Letter;
        for (var i = utf8.Length - 1; i >= 0; i--)
        {
            if ((utf8[i] & 0xC0) == 0x80)
            {
                continue;
            }

            var value = At(utf8, i, out var length);
            if ((value & Letter) != 0 && (next & (Letter | Mark | Joiner)) == 0)
            {
                return i + length;
            }

            next = value;
        }

        return 0;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static byte AtLong(ReadOnlySpan<byte> utf8, int i, out int length)
    {
        var rest = utf8[i..];
        if (rest[0] < 0xE0 && rest.Length > 1)
        {
            length = 2;
            return ClassOfChar[((rest[0] & 0x1F) << 6) | (rest[1] & 0x3F)];
        }

        if (rest[0] < 0xF0 && rest.Length > 2)
        {
            length = 3;
            return ClassOfChar[((rest[0] & 0x0F) << 12) | ((rest[1] & 0x3F) << 6) | (rest[2] & 0x3F)];
        }

        if (rest.Length > 3)
        {
            length = 4;
            return Of(CharUnicodeInfo.GetUnicodeCategory(((rest[0] & 0x07) << 18) | ((rest[1] & 0x3F) << 12) | ((rest[2] & 0x3F) << 6) | (rest[3] & 0x3F)));
        }

        length = rest.Length;
        return Other;
    }

    private static byte[] MakeClasses()
    {
        var classes = new byte[char.MaxValue + 1];
        for (var c = 0; c < classes.Length; c++)
        {
            classes[c] = char.IsWhiteSpace((char)c) ? Space : Of(char.GetUnicodeCategory((char)c));
        }

        classes['\r'] |= NewLine;
        classes['\n'] |= NewLine;
        foreach (var joiner in "\u0f0b\u0f0c\u200c\u200d")
        {
            classes[joiner] = Joiner;
        }

        return classes;
    }

    private static byte Of(UnicodeCategory category) => category switch
    {
        UnicodeCategory.UppercaseLetter or UnicodeCategory.LowercaseLetter or UnicodeCategory.TitlecaseLetter
            or UnicodeCategory.ModifierLetter or UnicodeCategory.OtherLetter => Letter,
        UnicodeCategory.NonSpacingMark or UnicodeCategory.SpacingCombiningMark or UnicodeCategory.EnclosingMark => Mark,
        UnicodeCategory.DecimalDigitNumber or UnicodeCategory.LetterNumber or UnicodeCategory.OtherNumber => Number,
        _ => Other,
    };
}
