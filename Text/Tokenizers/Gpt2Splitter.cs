using System.Globalization;
using System.Text;

namespace LlmPipeline.Text;

/// <summary>
/// Cuts text into the words that GPT-2 merges bytes within, as its pattern does over Unicode code points:
/// <c>'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+</c> (openai/gpt-2, src/encoder.py).
/// Written by hand: no backtracking, one pass.
/// </summary>
internal static class Gpt2Splitter
{
    private const byte Other = 0, Letter = 1, Number = 2, Space = 3;

    private static readonly byte[] ClassOfChar = MakeClasses();

    /// <summary>Length in chars of the first word of a text that is not empty.</summary>
    public static int FirstWordLength(ReadOnlySpan<char> text)
    {
        if (text[0] == '\'' && ContractionLength(text) is > 0 and var contraction)
        {
            return contraction;
        }

        var begin = text[0] == ' ' && text.Length > 1 ? 1 : 0;
        var kind = ClassAt(text, begin, out var length);
        if (kind != Space)
        {
            return begin + length + RunLength(text[(begin + length)..], kind);
        }

        var spaces = RunLength(text, Space);
        return spaces == text.Length || spaces == 1 ? spaces : spaces - 1;
    }

    private static int ContractionLength(ReadOnlySpan<char> text)
    {
        if (text.Length < 2)
        {
            return 0;
        }

        return text[1] switch
        {
            's' or 't' or 'm' or 'd' => 2,
            'r' or 'v' when text.Length > 2 && text[2] == 'e' => 3,
            'l' when text.Length > 2 && text[2] == 'l' => 3,
            _ => 0,
        };
    }

    private static int RunLength(ReadOnlySpan<char> text, byte kind)
    {
        var i = 0;
        while (i < text.Length && ClassAt(text, i, out var length) == kind)
        {
            i += length;
        }

        return i;
    }

    private static byte ClassAt(ReadOnlySpan<char> text, int i, out int length)
    {
        var c = text[i];
        if (!char.IsSurrogate(c))
        {
            length = 1;
            return ClassOfChar[c];
        }

        Rune.DecodeFromUtf16(text[i..], out var rune, out length);
        return ClassOf(Rune.GetUnicodeCategory(rune));
    }

    private static byte[] MakeClasses()
    {
        var classes = new byte[char.MaxValue + 1];
        for (var c = 0; c < classes.Length; c++)
        {
            classes[c] = char.IsWhiteSpace((char)c) ? Space : ClassOf(char.GetUnicodeCategory((char)c));
        }

        return classes;
    }

    private static byte ClassOf(UnicodeCategory category) => category switch
    {
        UnicodeCategory.UppercaseLetter or UnicodeCategory.LowercaseLetter or UnicodeCategory.TitlecaseLetter
            or UnicodeCategory.ModifierLetter or UnicodeCategory.OtherLetter => Letter,
        UnicodeCategory.DecimalDigitNumber or UnicodeCategory.LetterNumber or UnicodeCategory.OtherNumber => Number,
        _ => Other,
    };
}
