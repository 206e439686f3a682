using System.Globalization;
using System.Text;

namespace LlmPipeline.Text;

/// <summary>
/// Cuts text into the pieces that GPT-2's pattern gives (Radford et al. 2019), without a regular expression:
/// <c>'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+</c>. No token crosses a piece.
/// </summary>
internal static class Gpt2Splitter
{
    private enum Kind : byte
    {
        Letter,
        Number,
        Space,
        Other,
    }

    private static readonly Kind[] Ascii = [.. Enumerable.Range(0, 128).Select(c => KindOf(new Rune(c)))];

    /// <summary>Length, in UTF-16 units, of the first piece of a text that is not empty.</summary>
    public static int FirstPiece(ReadOnlySpan<char> text)
    {
        if (text[0] == '\'' && Contraction(text) is > 0 and var contraction)
        {
            return contraction;
        }

        var kind = KindAt(text, 0, out var width);
        if (kind != Kind.Space)
        {
            return RunOf(kind, text, width);
        }

        if (text[0] == ' ' && text.Length > 1 && KindAt(text, 1, out var next) is not Kind.Space and var following)
        {
            return RunOf(following, text, 1 + next);
        }

        // White space up to the last one before a word, which may join the word; a single one stands alone.
        var run = RunOf(Kind.Space, text, width);
        return run < text.Length && run > 1 ? run - 1 : run;
    }

    private static int RunOf(Kind kind, ReadOnlySpan<char> text, int length)
    {
        while (length < text.Length && KindAt(text, length, out var width) == kind)
        {
            length += width;
        }

        return length;
    }

    private static int Contraction(ReadOnlySpan<char> text) => text.Length < 2 ? 0 : text[1] switch
    {
        's' or 't' or 'm' or 'd' => 2,
        'r' or 'v' when text.Length > 2 && text[2] == 'e' => 3,
        'l' when text.Length > 2 && text[2] == 'l' => 3,
        _ => 0,
    };

    private static Kind KindAt(ReadOnlySpan<char> text, int index, out int width)
    {
        var c = text[index];
        width = 1;
        if (c < 128)
        {
            return Ascii[c];
        }

        return Rune.DecodeFromUtf16(text[index..], out var rune, out width) == System.Buffers.OperationStatus.Done ? KindOf(rune) : Kind.Other;
    }

    private static Kind KindOf(Rune rune) => Rune.GetUnicodeCategory(rune) switch
    {
        UnicodeCategory.UppercaseLetter or UnicodeCategory.LowercaseLetter or UnicodeCategory.TitlecaseLetter
            or UnicodeCategory.ModifierLetter or UnicodeCategory.OtherLetter => Kind.Letter,
        UnicodeCategory.DecimalDigitNumber or UnicodeCategory.LetterNumber or UnicodeCategory.OtherNumber => Kind.Number,
        _ => Rune.IsWhiteSpace(rune) ? Kind.Space : Kind.Other,
    };
}
