using System.Globalization;
using System.Text;

namespace LlmPipeline.Text.Cleaning;

/// <summary>Replaces or removes single code points.</summary>
/// <param name="replace">The replacement of a code point; null where it stays, empty where it goes.</param>
internal sealed class CharacterStep(Func<Rune, string?> replace)
{
    private readonly string?[] _ascii = [.. Enumerable.Range(0, 128).Select(c => replace(new Rune(c)))];

    /// <summary>Typographic quotes, dashes and ellipses become ASCII.</summary>
    public static CharacterStep NormalizePunctuation { get; } = new(rune => rune.Value switch
    {
        0x2018 or 0x2019 or 0x201A or 0x201B or 0x2039 or 0x203A => "'",
        0x201C or 0x201D or 0x201E or 0x201F or 0xAB or 0xBB => "\"",
        (>= 0x2010 and <= 0x2015) or 0x2212 => "-",
        0x2026 => "...",
        _ => null,
    });

    /// <summary>Unicode punctuation and the ASCII symbols <c>$+&lt;=&gt;^`|~</c> go.</summary>
    public static CharacterStep RemovePunctuation { get; } = new(rune => Rune.IsPunctuation(rune) || (rune.IsAscii && Rune.IsSymbol(rune)) ? "" : null);

    /// <summary>Each decimal digit becomes 0.</summary>
    public static CharacterStep ZeroDigits { get; } = new(rune => rune.Value != '0' && Rune.GetUnicodeCategory(rune) == UnicodeCategory.DecimalDigitNumber ? "0" : null);

    /// <summary>Decimal digits go.</summary>
    public static CharacterStep RemoveDigits { get; } = new(rune => Rune.GetUnicodeCategory(rune) == UnicodeCategory.DecimalDigitNumber ? "" : null);

    /// <summary>The text with every code point replaced; the same instance where nothing changes.</summary>
    public string Apply(string text)
    {
        StringBuilder? changed = null;
        var kept = 0;
        for (var at = 0; at < text.Length;)
        {
            var length = 1;
            string? replacement = null;
            if (text[at] < 128)
            {
                replacement = _ascii[text[at]];
            }
            else if (Rune.DecodeFromUtf16(text.AsSpan(at), out var rune, out length) == System.Buffers.OperationStatus.Done)
            {
                replacement = replace(rune);
            }

            if (replacement is not null)
            {
                changed ??= new StringBuilder(text.Length);
                changed.Append(text, kept, at - kept).Append(replacement);
                kept = at + length;
            }

            at += length;
        }

        return changed is null ? text : changed.Append(text, kept, text.Length - kept).ToString();
    }
}
