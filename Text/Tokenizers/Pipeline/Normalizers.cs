using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;

namespace LlmPipeline.Text;

/// <summary>Changes text before it is cut.</summary>
internal abstract class Normalizer
{
    public abstract AlignedText Apply(AlignedText text);
}

/// <summary>One after another.</summary>
internal sealed class NormalizerSequence(IReadOnlyList<Normalizer> normalizers) : Normalizer
{
    public override AlignedText Apply(AlignedText text) => normalizers.Aggregate(text, (t, n) => n.Apply(t));
}

/// <summary>A Unicode normalization form.</summary>
internal sealed class UnicodeNormalizer(NormalizationForm form) : Normalizer
{
    public override AlignedText Apply(AlignedText text)
    {
        var whole = WellFormed(text.Span);
        if (whole.IsNormalized(form))
        {
            return text;
        }

        // Cluster by cluster, so that each char keeps its source; what composes across clusters (Hangul does not) is taken whole.
        var builder = new AlignedTextBuilder(text.Length);
        var at = 0;
        while (at < whole.Length)
        {
            var length = StringInfo.GetNextTextElementLength(whole, at);
            builder.Append(whole.Substring(at, length).Normalize(form), text.BeginOf(at), text.EndOf(at + length - 1));
            at += length;
        }

        var normalized = whole.Normalize(form);
        var result = builder.ToText();
        if (result.Span.SequenceEqual(normalized))
        {
            return result;
        }

        var coarse = new AlignedTextBuilder(normalized.Length);
        coarse.Append(normalized, text.BeginOf(0), text.EndOf(text.Length - 1));
        return coarse.ToText();
    }

    // Half a surrogate pair cannot be normalized.
    private static string WellFormed(ReadOnlySpan<char> text)
    {
        var chars = text.ToArray();
        for (var i = 0; i < chars.Length; i++)
        {
            if (char.IsHighSurrogate(chars[i]) && i + 1 < chars.Length && char.IsLowSurrogate(chars[i + 1]))
            {
                i++;
            }
            else if (char.IsSurrogate(chars[i]))
            {
                chars[i] = '\uFFFD';
            }
        }

        return new string(chars);
    }
}

/// <summary>Changes or drops one code point at a time.</summary>
/// <param name="map">What stands for a code point; null where it stays.</param>
internal sealed class RuneNormalizer(Func<Rune, string?> map) : Normalizer
{
    public override AlignedText Apply(AlignedText text)
    {
        var builder = new AlignedTextBuilder(text.Length);
        for (var i = 0; i < text.Length;)
        {
            Rune.DecodeFromUtf16(text.Span[i..], out var rune, out var length);
            if (map(rune) is { } replaced)
            {
                builder.Append(replaced, text.BeginOf(i), text.EndOf(i + length - 1));
            }
            else
            {
                builder.Append(text, i, length);
            }

            i += length;
        }

        return builder.ToText();
    }

    /// <summary>Lower case, code point by code point.</summary>
    public static string? Lower(Rune rune) =>
        rune.Value == 0x130 ? "i\u0307" : Rune.ToLowerInvariant(rune) is var lower && lower != rune ? lower.ToString() : null;

    /// <summary>Drops combining marks.</summary>
    public static string? DropMarks(Rune rune) => Rune.GetUnicodeCategory(rune)
        is UnicodeCategory.NonSpacingMark or UnicodeCategory.SpacingCombiningMark or UnicodeCategory.EnclosingMark ? "" : null;

    /// <summary>Drops combining marks that take no space.</summary>
    public static string? DropNonSpacingMarks(Rune rune) => Rune.GetUnicodeCategory(rune) == UnicodeCategory.NonSpacingMark ? "" : null;

    /// <summary>BERT's cleaning: controls go, white space becomes a space.</summary>
    public static string? CleanBert(Rune rune) => rune.Value is 0 or 0xFFFD || (rune.Value is not ('\t' or '\n' or '\r') && IsControl(rune)) ? ""
        : Rune.IsWhiteSpace(rune) ? " " : null;

    /// <summary>BERT puts spaces around Chinese characters.</summary>
    public static string? SpaceChinese(Rune rune) => rune.Value is (>= 0x4E00 and <= 0x9FFF) or (>= 0x3400 and <= 0x4DBF) or (>= 0x20000 and <= 0x2A6DF)
        or (>= 0x2A700 and <= 0x2B73F) or (>= 0x2B740 and <= 0x2B81F) or (>= 0x2B920 and <= 0x2CEAF) or (>= 0xF900 and <= 0xFAFF) or (>= 0x2F800 and <= 0x2FA1F) ? $" {rune} " : null;

    private static bool IsControl(Rune rune) => Rune.GetUnicodeCategory(rune)
        is UnicodeCategory.Control or UnicodeCategory.Format or UnicodeCategory.PrivateUse or UnicodeCategory.OtherNotAssigned or UnicodeCategory.Surrogate;
}

/// <summary>Drops white space at the ends.</summary>
internal sealed class StripNormalizer(bool left, bool right) : Normalizer
{
    public override AlignedText Apply(AlignedText text)
    {
        var (start, end) = (0, text.Length);
        while (left && start < end && char.IsWhiteSpace(text.Span[start]))
        {
            start++;
        }

        while (right && end > start && char.IsWhiteSpace(text.Span[end - 1]))
        {
            end--;
        }

        var builder = new AlignedTextBuilder(end - start);
        builder.Append(text, start, end - start);
        return builder.ToText();
    }
}

/// <summary>Puts text before a text that is not empty.</summary>
internal sealed class PrependNormalizer(string prefix) : Normalizer
{
    public override AlignedText Apply(AlignedText text)
    {
        if (text.Length == 0)
        {
            return text;
        }

        var builder = new AlignedTextBuilder(text.Length + prefix.Length);
        builder.Append(prefix, text.BeginOf(0), text.BeginOf(0));
        builder.Append(text, 0, text.Length);
        return builder.ToText();
    }
}

/// <summary>Replaces what a pattern matches.</summary>
internal sealed class ReplaceNormalizer(Regex pattern, string content) : Normalizer
{
    public override AlignedText Apply(AlignedText text)
    {
        if (!pattern.IsMatch(text.Span))
        {
            return text;
        }

        var builder = new AlignedTextBuilder(text.Length);
        var at = 0;
        foreach (var match in pattern.EnumerateMatches(text.Span))
        {
            builder.Append(text, at, match.Index - at);
            at = match.Index + match.Length;
            var (begin, end) = match.Length > 0 ? (text.BeginOf(match.Index), text.EndOf(at - 1)) : at < text.Length ? (text.BeginOf(at), text.BeginOf(at)) : (text.EndOf(at - 1), text.EndOf(at - 1));
            builder.Append(content, begin, end);
        }

        builder.Append(text, at, text.Length - at);
        return builder.ToText();
    }
}
