using System.Net;
using System.Net.Sockets;

namespace LlmPipeline.Text.Cleaning;

/// <summary>
/// IPv4 and IPv6 addresses. Version and section numbers look like IPv4: four numbers of one digit each, or ending in .0, or after a word
/// such as "version", are none. An IPv6 address has eight groups, or "::" and three groups, or "::" and a prefix in use (2000::/3,
/// fc00::/7, fe80::/10); neither times nor hardware addresses nor <c>a::b</c> in code are.
/// </summary>
internal static class AddressMatcher
{
    private const int MaxLength = 45;
    private const int MaxContext = 12;

    private static readonly string[] VersionWords = ["version", "versions", "ver", "v", "release", "build", "rev", "revision", "section", "sections", "chapter", "oid", "clause", "firmware"];

    /// <summary>The address that begins at a character or, when that is a colon, has its first colon there; or null.</summary>
    /// <param name="text">The text.</param>
    /// <param name="at">A digit, <c>+</c>, <c>(</c> or a colon.</param>
    /// <param name="floor">The address begins here or later.</param>
    public static PersonalDataMatch? Match(string text, int at, int floor)
    {
        var end = text[at] == ':' ? -1 : EndOfFour(text, at, floor);
        return end >= 0 ? new PersonalDataMatch(PersonalDataKind.Ip, at, end)
            : text[at] == ':' ? MatchSix(text, at, floor)
            : null;
    }

    private static int EndOfFour(string text, int start, int floor)
    {
        if (start > floor && (char.IsLetterOrDigit(text[start - 1]) || text[start - 1] is '.' or '_' or '-'))
        {
            return -1;
        }

        var at = start;
        var digits = 0;
        var value = 0;
        for (var octet = 0; octet < 4; octet++)
        {
            if (octet > 0 && (at >= text.Length || text[at++] != '.'))
            {
                return -1;
            }

            var first = at;
            value = 0;
            while (at < text.Length && at - first < 3 && char.IsAsciiDigit(text[at]))
            {
                value = (value * 10) + text[at++] - '0';
            }

            var length = at - first;
            digits += length;
            if (length == 0 || value > 255 || (length > 1 && text[first] == '0') || (octet == 0 && value == 0))
            {
                return -1;
            }
        }

        var isEnd = at == text.Length || !(char.IsLetterOrDigit(text[at]) || text[at] == '_' || (text[at] is '.' or '-' && at + 1 < text.Length && char.IsLetterOrDigit(text[at + 1])));
        return isEnd && digits > 4 && value != 0 && !FollowsVersionWord(text, start) ? at : -1;
    }

    private static bool FollowsVersionWord(string text, int start)
    {
        var end = start;
        while (end > 0 && start - end < 3 && text[end - 1] is ' ' or '=' or ':' or '.' or '"')
        {
            end--;
        }

        var first = end;
        while (first > 0 && end - first <= MaxContext && char.IsAsciiLetter(text[first - 1]))
        {
            first--;
        }

        return first < end && VersionWords.Contains(text[first..end], StringComparer.OrdinalIgnoreCase);
    }

    private static PersonalDataMatch? MatchSix(string text, int colon, int floor)
    {
        var start = colon;
        while (start > floor && colon - start <= 4 && char.IsAsciiHexDigit(text[start - 1]))
        {
            start--;
        }

        if (start > floor && (char.IsLetterOrDigit(text[start - 1]) || text[start - 1] is ':' or '.' or '_' or '-'))
        {
            return null;
        }

        var end = colon;
        while (end < text.Length && end - start <= MaxLength && (char.IsAsciiHexDigit(text[end]) || text[end] is ':' or '.'))
        {
            end++;
        }

        // The sentence may go on after the address.
        while (end > start + 1 && (text[end - 1] == '.' || (text[end - 1] == ':' && text[end - 2] != ':')))
        {
            end--;
        }

        var length = end - start;
        if (length is < 4 or > MaxLength || (end < text.Length && (char.IsLetterOrDigit(text[end]) || text[end] == '_')))
        {
            return null;
        }

        var address = text.AsSpan(start, length);
        return IsPlausible(address) && IPAddress.TryParse(address, out var parsed) && parsed.AddressFamily == AddressFamily.InterNetworkV6
            ? new PersonalDataMatch(PersonalDataKind.Ip, start, end)
            : null;
    }

    private static bool IsPlausible(ReadOnlySpan<char> address)
    {
        if (address.IndexOf("::") < 0)
        {
            return true;
        }

        // An IPv4 address at the end stands for two groups.
        var groups = address.Contains('.') ? 1 : 0;
        foreach (var range in address.Split(':'))
        {
            groups += address[range].IsEmpty ? 0 : 1;
        }

        var first = address[..address.IndexOf(':')];
        var inUse = first.Length == 4 && (first[0] is '2' or '3' || first.StartsWith("fe80", StringComparison.OrdinalIgnoreCase)
            || first.StartsWith("fc", StringComparison.OrdinalIgnoreCase) || first.StartsWith("fd", StringComparison.OrdinalIgnoreCase));
        return address.ContainsAnyInRange('0', '9') && (groups >= 3 || inUse);
    }
}
