using System.Text;

namespace LlmPipeline.Text.Cleaning;

/// <summary>
/// The words of a text as hashes, by lower case. A word is a run of letters, marks and digits; in scripts that are written without
/// blanks between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese), each character with its marks is a word.
/// </summary>
internal ref struct WordHashes(ReadOnlySpan<byte> utf8)
{
    private const ulong Seed = 0xCBF29CE484222325;
    private const ulong Prime = 0x100000001B3;

    // Lower case of ASCII letters and digits; 0 for every other byte.
    private static readonly byte[] AsciiLower = [.. Enumerable.Range(0, 256).Select(c => char.IsAsciiLetterOrDigit((char)c) ? (byte)char.ToLowerInvariant((char)c) : (byte)0)];

    private readonly ReadOnlySpan<byte> _utf8 = utf8;
    private int _at;

    /// <summary>The word found last.</summary>
    public ulong Current { get; private set; }

    public bool MoveNext()
    {
        // Nearly all text is ASCII letters, digits and what is between them.
        var ascii = AsciiLower;
        var at = _at;
        while (at < _utf8.Length && _utf8[at] < 128 && ascii[_utf8[at]] == 0)
        {
            at++;
        }

        var start = at;
        var hash = Seed;
        while (at < _utf8.Length && ascii[_utf8[at]] is not 0 and var lower)
        {
            hash = (hash ^ lower) * Prime;
            at++;
        }

        _at = at;
        return at < _utf8.Length && _utf8[at] >= 128 ? MoveNext(hash, at > start ? WordClass.Letter : WordClass.None) : End(hash, at > start);
    }

    private bool End(ulong hash, bool isWord)
    {
        Current = hash;
        return isWord;
    }

    private bool MoveNext(ulong hash, WordClass previous)
    {
        while (_at < _utf8.Length)
        {
            int value = _utf8[_at];
            var length = 1;
            if (value >= 128)
            {
                Rune.DecodeFromUtf8(_utf8[_at..], out var rune, out length);
                value = rune.Value;
            }

            var current = WordCharacters.ClassOf(value);
            var ends = current == WordClass.None || (previous != WordClass.None && current == WordClass.Alone)
                || (previous == WordClass.Alone && current == WordClass.Letter);
            if (previous != WordClass.None && ends)
            {
                break;
            }

            _at += length;
            if (current != WordClass.None)
            {
                hash = (hash ^ WordCharacters.Lower(value)) * Prime;
                previous = current == WordClass.Mark && previous != WordClass.None ? previous : current;
            }
        }

        return End(hash, previous != WordClass.None);
    }
}

/// <summary>What a code point does in a word.</summary>
internal enum WordClass : byte
{
    /// <summary>It lies between words.</summary>
    None,

    /// <summary>It is part of a word.</summary>
    Letter,

    /// <summary>It belongs to the code point before it.</summary>
    Mark,

    /// <summary>It is a word of its own.</summary>
    Alone,
}

/// <summary>Classes and lower case of code points, from tables for the basic plane.</summary>
internal static class WordCharacters
{
    private static readonly WordClass[] Classes = [.. Enumerable.Range(0, 0x10000).Select(Classify)];
    private static readonly ushort[] LowerCase = [.. Enumerable.Range(0, 0x10000).Select(c => (ushort)char.ToLowerInvariant((char)c))];

    public static WordClass ClassOf(int value) => value < 0x10000 ? Classes[value] : Classify(value);

    public static uint Lower(int value) => value < 0x10000 ? LowerCase[value] : (uint)Rune.ToLowerInvariant(new Rune(value)).Value;

    /// <summary>Whether words of this code point's script are written without blanks.</summary>
    public static bool IsWithoutBlanks(int value) => value is
        (>= 0x0E00 and <= 0x0EFF)                              // Thai, Lao
        or (>= 0x1000 and <= 0x109F)                           // Myanmar
        or (>= 0x1780 and <= 0x17FF)                           // Khmer
        or (>= 0x2E80 and <= 0x2FDF) or (>= 0x3005 and <= 0x3007)
        or (>= 0x3040 and <= 0x30FF) or (>= 0x31F0 and <= 0x31FF) // kana
        or (>= 0x3400 and <= 0x4DBF) or (>= 0x4E00 and <= 0x9FFF) or (>= 0xF900 and <= 0xFAFF)
        or (>= 0xFF66 and <= 0xFF9F) or (>= 0x1B000 and <= 0x1B16F) or (>= 0x20000 and <= 0x3FFFF);

    private static WordClass Classify(int value)
    {
        if (!Rune.TryCreate(value, out var rune))
        {
            return WordClass.None;
        }

        return Rune.GetUnicodeCategory(rune) switch
        {
            System.Globalization.UnicodeCategory.NonSpacingMark or System.Globalization.UnicodeCategory.SpacingCombiningMark
                or System.Globalization.UnicodeCategory.EnclosingMark => WordClass.Mark,
            _ when !Rune.IsLetterOrDigit(rune) => WordClass.None,
            _ => IsWithoutBlanks(value) ? WordClass.Alone : WordClass.Letter,
        };
    }
}
