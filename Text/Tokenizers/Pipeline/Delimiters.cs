using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;

namespace LlmPipeline.Text;

/// <summary>Ready-made delimiters.</summary>
internal static class Delimiters
{
    // A char of each general category, in its order, that patterns do not name: .NET's regular expressions do not know characters beyond
    // U+FFFF, and see one of these in their place.
    private const string StandIns = "\uA640\uA641\u01C5\uA015\uA000\uFE20\u0903\u0488\u1810\u2180\u2460\u2060\u2060\u2060\u2060\u2060\uFFFD\uE000\u203F\u2E3A\u2E28\u2E29\u2E02\u2E03\u2E2A\u2A00\u20A0\uA700\u2600\u0378";

    /// <summary>What a regular expression matches; an empty match is none.</summary>
    public static Action<string, List<(int Start, int Length)>> Of(Regex pattern) => (text, found) =>
    {
        var (seen, places) = StandIn(text);
        foreach (var match in pattern.EnumerateMatches(seen))
        {
            if (match.Length > 0)
            {
                var start = places?[match.Index] ?? match.Index;
                found.Add((start, (places?[match.Index + match.Length] ?? (match.Index + match.Length)) - start));
            }
        }
    };

    /// <summary>Each code point of a kind.</summary>
    public static Action<string, List<(int Start, int Length)>> Each(Predicate<Rune> isDelimiter) => (text, found) =>
    {
        for (var i = 0; i < text.Length;)
        {
            Rune.DecodeFromUtf16(text.AsSpan(i), out var rune, out var length);
            if (isDelimiter(rune))
            {
                found.Add((i, length));
            }

            i += length;
        }
    };

    /// <summary>Unicode punctuation, and ASCII symbols: BERT's definition.</summary>
    public static bool IsPunctuation(Rune rune) => rune.IsAscii
        ? rune.Value is (>= '!' and <= '/') or (>= ':' and <= '@') or (>= '[' and <= '`') or (>= '{' and <= '~')
        : Rune.GetUnicodeCategory(rune) is UnicodeCategory.ConnectorPunctuation or UnicodeCategory.DashPunctuation or UnicodeCategory.OpenPunctuation
            or UnicodeCategory.ClosePunctuation or UnicodeCategory.InitialQuotePunctuation or UnicodeCategory.FinalQuotePunctuation or UnicodeCategory.OtherPunctuation;

    /// <summary>Unicode numbers of any kind.</summary>
    public static bool IsNumber(Rune rune) => Rune.GetUnicodeCategory(rune)
        is UnicodeCategory.DecimalDigitNumber or UnicodeCategory.LetterNumber or UnicodeCategory.OtherNumber;

    // The text with a char for each code point, and the place of each in the text; none where they are the same.
    private static (string Text, int[]? Places) StandIn(string text)
    {
        if (!text.AsSpan().ContainsAnyInRange('\uD800', '\uDFFF'))
        {
            return (text, null);
        }

        var chars = new StringBuilder(text.Length);
        var places = new int[text.Length + 1];
        for (var i = 0; i < text.Length;)
        {
            Rune.DecodeFromUtf16(text.AsSpan(i), out var rune, out var length);
            places[chars.Length] = i;
            chars.Append(rune.IsBmp ? (char)rune.Value : StandIns[(int)Rune.GetUnicodeCategory(rune)]);
            i += length;
        }

        places[chars.Length] = text.Length;
        return (chars.ToString(), places);
    }
}
