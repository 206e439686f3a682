using System.Buffers;
using System.Globalization;
using System.Text;

namespace LlmPipeline.Text.Cleaning;

/// <summary>Unicode normalization that takes any string.</summary>
internal static class UnicodeStep
{
    private static readonly SearchValues<char> Suspects = SearchValues.Create([.. Enumerable.Range(0xD800, 0x800).Select(c => (char)c), '\uFFFE']);
    private static readonly Lazy<bool[]> StaysInC = new(() => FindStaying(NormalizationForm.FormC));
    private static readonly Lazy<bool[]> StaysInKC = new(() => FindStaying(NormalizationForm.FormKC));

    /// <summary>The normalized text; the same instance where nothing changes. What is not Unicode text (lone surrogates, U+FFFE) stays.</summary>
    public static string Apply(string text, NormalizationForm form)
    {
        // Below U+00A0 everything is in both forms.
        var first = text.AsSpan().IndexOfAnyExceptInRange('\0', '\u009F');
        if (first < 0 || AllStay(text.AsSpan(first), (form == NormalizationForm.FormC ? StaysInC : StaysInKC).Value))
        {
            return text;
        }

        return FirstInvalid(text.AsSpan(first)) < 0
            ? text.IsNormalized(form) ? text : text.Normalize(form)
            : NormalizeParts(text, form);
    }

    private static bool AllStay(ReadOnlySpan<char> text, bool[] stays)
    {
        foreach (var character in text)
        {
            if (!stays[character])
            {
                return false;
            }
        }

        return true;
    }

    // What is normalized by itself stays so among others, unless it can be composed with what stands before it: marks, and the vowels
    // and final consonants of Hangul.
    private static bool[] FindStaying(NormalizationForm form) => [.. Enumerable.Range(0, 0x10000).Select(c =>
        c is not ((>= 0x1100 and <= 0x11FF) or 0xFFFE) && !char.IsSurrogate((char)c)
        && char.GetUnicodeCategory((char)c) is not (UnicodeCategory.NonSpacingMark or UnicodeCategory.SpacingCombiningMark or UnicodeCategory.EnclosingMark)
        && ((char)c).ToString().IsNormalized(form))];

    // The framework's normalization throws on what is no Unicode text.
    private static string NormalizeParts(string text, NormalizationForm form)
    {
        var normalized = new StringBuilder(text.Length);
        var rest = text.AsSpan();
        while (!rest.IsEmpty)
        {
            var invalid = FirstInvalid(rest);
            var valid = invalid < 0 ? rest : rest[..invalid];
            normalized.Append(valid.ToString().Normalize(form));
            if (invalid < 0)
            {
                break;
            }

            normalized.Append(rest[invalid]);
            rest = rest[(invalid + 1)..];
        }

        var result = normalized.ToString();
        return result == text ? text : result;
    }

    private static int FirstInvalid(ReadOnlySpan<char> text)
    {
        for (var start = 0; ;)
        {
            var found = text[start..].IndexOfAny(Suspects);
            if (found < 0)
            {
                return -1;
            }

            var at = start + found;
            if (!char.IsHighSurrogate(text[at]) || at + 1 == text.Length || !char.IsLowSurrogate(text[at + 1]))
            {
                return at;
            }

            start = at + 2;
        }
    }
}
