using System.Text;

namespace LlmPipeline.Text.Cleaning;

/// <summary>Unicode normalization that takes any string.</summary>
internal static class UnicodeStep
{
    /// <summary>The normalized text; the same instance where nothing changes. What is not Unicode text (lone surrogates, U+FFFE) stays.</summary>
    public static string Apply(string text, NormalizationForm form)
    {
        // Below U+0300 everything is in form C, below U+00A0 in form KC too.
        var first = text.AsSpan().IndexOfAnyExceptInRange('\0', form == NormalizationForm.FormC ? '\u02FF' : '\u009F');
        if (first < 0)
        {
            return text;
        }

        return FirstInvalid(text.AsSpan(first)) < 0
            ? text.IsNormalized(form) ? text : text.Normalize(form)
            : NormalizeParts(text, form);
    }

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

    private static readonly System.Buffers.SearchValues<char> Suspects = System.Buffers.SearchValues.Create(
        [.. Enumerable.Range(0xD800, 0x800).Select(c => (char)c), '\uFFFE']);
}
