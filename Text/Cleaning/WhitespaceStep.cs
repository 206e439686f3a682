using System.Text;

namespace LlmPipeline.Text.Cleaning;

/// <summary>Trims lines at their end, turns CRLF and CR into LF, and keeps at most one blank line.</summary>
internal static class WhitespaceStep
{
    /// <summary>The cleaned text; the same instance where nothing changes.</summary>
    /// <example><c>"a  \r\n\r\n\r\nb"</c> becomes <c>"a\n\nb"</c>.</example>
    public static string Apply(string text)
    {
        var cleaned = new StringBuilder(text.Length);
        var blankLines = 0;
        var rest = text.AsSpan();
        while (true)
        {
            var end = rest.IndexOfAny('\r', '\n');
            var line = (end < 0 ? rest : rest[..end]).TrimEnd();
            blankLines = line.IsEmpty ? blankLines + 1 : 0;
            if (blankLines <= 1)
            {
                cleaned.Append(line);
            }

            if (end < 0)
            {
                break;
            }

            if (blankLines <= 1)
            {
                cleaned.Append('\n');
            }

            rest = rest[(rest[end..].StartsWith("\r\n") ? end + 2 : end + 1)..];
        }

        // Every change shortens the text, or replaces a CR.
        return cleaned.Length == text.Length && !text.Contains('\r') ? text : cleaned.ToString();
    }
}
