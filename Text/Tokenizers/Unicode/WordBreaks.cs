using System.Text;
using static LlmPipeline.Text.WordBreakClass;

namespace LlmPipeline.Text;

/// <summary>Unicode word boundaries (UAX 29, section 4; rules WB1 to WB999 of Unicode 16.0, without tailoring).</summary>
internal static class WordBreaks
{
    private const WordBreakClass None = (WordBreakClass)byte.MaxValue;

    /// <summary>Length in chars of the first word of a text that is not empty: up to the first boundary.</summary>
    public static int FirstLength(ReadOnlySpan<char> text)
    {
        var before = None; // the class before the last, WB4 applied
        var last = Next(text, 0, out var length);
        var rawLast = last;
        var regionalIndicators = last == Regional_Indicator ? 1 : 0;
        for (var at = length; at < text.Length; at += length)
        {
            var next = Next(text, at, out length);
            if (IsBoundary(before, last, rawLast, next, text, at, length, regionalIndicators))
            {
                return at;
            }

            rawLast = next;
            if (IsTransparent(next) && !IsLineEnd(last))
            {
                continue; // WB4: as if it were not there
            }

            (before, last) = (last, next);
            regionalIndicators = next == Regional_Indicator ? regionalIndicators + 1 : 0;
        }

        return text.Length;
    }

    private static bool IsBoundary(
        WordBreakClass before, WordBreakClass last, WordBreakClass rawLast, WordBreakClass next, ReadOnlySpan<char> text, int at, int length, int regionalIndicators)
    {
        if (rawLast == CR && next == LF)
        {
            return false; // WB3
        }

        if (IsLineEnd(rawLast) || IsLineEnd(next))
        {
            return true; // WB3a, WB3b
        }

        if ((rawLast == ZWJ && WordBreakProperty.IsPictographic(CodePoint(text, at))) // WB3c
            || (rawLast == WSegSpace && next == WSegSpace) // WB3d
            || IsTransparent(next)) // WB4
        {
            return false;
        }

        if (IsLetter(last) && IsLetter(next))
        {
            return false; // WB5
        }

        if (IsLetter(last) && next is (MidLetter or MidNumLet or Single_Quote) && IsLetter(After(text, at + length)))
        {
            return false; // WB6
        }

        if (IsLetter(before) && last is (MidLetter or MidNumLet or Single_Quote) && IsLetter(next))
        {
            return false; // WB7
        }

        if ((last == Hebrew_Letter && next == Single_Quote) // WB7a
            || (last == Hebrew_Letter && next == Double_Quote && After(text, at + length) == Hebrew_Letter) // WB7b
            || (before == Hebrew_Letter && last == Double_Quote && next == Hebrew_Letter)) // WB7c
        {
            return false;
        }

        if ((last == Numeric && (next == Numeric || IsLetter(next))) || (IsLetter(last) && next == Numeric))
        {
            return false; // WB8 to WB10
        }

        if ((before == Numeric && last is (MidNum or MidNumLet or Single_Quote) && next == Numeric) // WB11
            || (last == Numeric && next is (MidNum or MidNumLet or Single_Quote) && After(text, at + length) == Numeric)) // WB12
        {
            return false;
        }

        if ((last == Katakana && next == Katakana) // WB13
            || (next == ExtendNumLet && (IsLetter(last) || last is Numeric or Katakana or ExtendNumLet)) // WB13a
            || (last == ExtendNumLet && (IsLetter(next) || next is Numeric or Katakana))) // WB13b
        {
            return false;
        }

        return !(last == Regional_Indicator && next == Regional_Indicator && regionalIndicators % 2 == 1); // WB15, WB16, WB999
    }

    private static bool IsLetter(WordBreakClass value) => value is ALetter or Hebrew_Letter;

    private static bool IsLineEnd(WordBreakClass value) => value is CR or LF or Newline;

    private static bool IsTransparent(WordBreakClass value) => value is Extend or Format or ZWJ;

    private static WordBreakClass Next(ReadOnlySpan<char> text, int at, out int length)
    {
        Rune.DecodeFromUtf16(text[at..], out var rune, out length);
        return WordBreakProperty.Of(rune.Value);
    }

    private static int CodePoint(ReadOnlySpan<char> text, int at)
    {
        Rune.DecodeFromUtf16(text[at..], out var rune, out _);
        return rune.Value;
    }

    // The class at a position, what WB4 makes transparent left out.
    private static WordBreakClass After(ReadOnlySpan<char> text, int at)
    {
        while (at < text.Length)
        {
            var found = Next(text, at, out var length);
            if (!IsTransparent(found))
            {
                return found;
            }

            at += length;
        }

        return None;
    }
}
