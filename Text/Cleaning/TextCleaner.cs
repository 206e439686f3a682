using System.Text;

namespace LlmPipeline.Text.Cleaning;

/// <summary>Cleans documents. Each step is a switch.</summary>
/// <param name="unicode">Unicode normalization form, or null for none.</param>
/// <param name="whitespace">Trims lines at their end, turns CRLF and CR into LF, and keeps at most one blank line.</param>
public sealed class TextCleaner(NormalizationForm? unicode, bool whitespace)
{
    /// <summary>The cleaned text. With no step switched on, the text itself.</summary>
    /// <example><c>new TextCleaner(null, true).Clean("a  \r\n\r\n\r\nb")</c> gives <c>"a\n\nb"</c>.</example>
    public string Clean(string text)
    {
        if (unicode is { } form && !text.IsNormalized(form))
        {
            text = text.Normalize(form);
        }

        return whitespace ? CleanWhitespace(text) : text;
    }

    private static string CleanWhitespace(string text)
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
                return cleaned.ToString();
            }

            if (blankLines <= 1)
            {
                cleaned.Append('\n');
            }

            rest = rest[(rest[end..].StartsWith("\r\n") ? end + 2 : end + 1)..];
        }
    }
}
