using System.Buffers;

namespace LlmPipeline.Text.Cleaning;

/// <summary>
/// Mail addresses as people write them: a local part of 1 to 64 ASCII letters, digits and <c>._%+-</c>, and a domain of at most 255
/// with at least two labels, the last of letters.
/// </summary>
internal static class EmailMatcher
{
    private const int MaxLocal = 64;
    private const int MaxDomain = 255;
    private const int MaxLabel = 63;

    // icon@2x.png is a file.
    private static readonly HashSet<string> FileEndings = new(["png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "html"], StringComparer.OrdinalIgnoreCase);

    private static readonly SearchValues<char> Local = SearchValues.Create("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._%+-");

    /// <summary>The address around an @, or null.</summary>
    /// <param name="text">The text.</param>
    /// <param name="at">Where the @ is.</param>
    /// <param name="floor">The address begins here or later.</param>
    public static PersonalDataMatch? Match(string text, int at, int floor)
    {
        var start = at;
        var least = Math.Max(floor, at - MaxLocal);
        while (start > least && Local.Contains(text[start - 1]))
        {
            start--;
        }

        while (start < at && text[start] is '.' or '-' or '%' or '+')
        {
            start++;
        }

        if (start == at || text[at - 1] == '.')
        {
            return null;
        }

        var end = DomainEnd(text, at + 1);
        return end < 0 || FileEndings.Contains(text[(text.LastIndexOf('.', end - 1) + 1)..end]) ? null : new PersonalDataMatch(PersonalDataKind.Email, start, end);
    }

    // The end of the longest run of labels whose last one can be a top-level domain, or -1.
    private static int DomainEnd(string text, int start)
    {
        var best = -1;
        var limit = Math.Min(text.Length, start + MaxDomain);
        for (var label = start; label < limit;)
        {
            var end = label;
            var letters = 0;
            while (end < limit && (char.IsAsciiLetterOrDigit(text[end]) || text[end] == '-'))
            {
                letters += char.IsAsciiLetter(text[end]) ? 1 : 0;
                end++;
            }

            var length = end - label;
            if (length is 0 or > MaxLabel || text[label] == '-')
            {
                break;
            }

            var isTop = (letters == length && length >= 2) || text.AsSpan(label, length).StartsWith("xn--", StringComparison.OrdinalIgnoreCase);
            if (label > start && isTop)
            {
                best = end;
            }

            if (end >= limit || text[end] != '.')
            {
                break;
            }

            label = end + 1;
        }

        return best;
    }
}
