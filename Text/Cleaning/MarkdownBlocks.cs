using System.Text;

namespace LlmPipeline.Text.Cleaning;

/// <summary>Removes the signs of Markdown blocks: headings, quotes, rules, underlines and link definitions. Inline signs are removed by paragraph.</summary>
internal static class MarkdownBlocks
{
    /// <summary>Appends the text without the signs of Markdown.</summary>
    public static void Strip(string text, StringBuilder stripped)
    {
        var paragraph = new StringBuilder();
        for (var start = 0; start < text.Length;)
        {
            var length = text.AsSpan(start).IndexOf('\n');
            var end = length < 0 ? text.Length : start + length + 1;
            var line = text.AsSpan(start, end - start);
            start = end;
            var content = line.TrimEnd();
            var ending = line[content.Length..];
            if (IsRule(content) || IsDefinition(content))
            {
                continue;
            }

            var heading = Heading(content);
            var isQuote = !heading.IsHeading && TrimQuote(ref content);
            var standsAlone = content.IsEmpty || heading.IsHeading;
            if (standsAlone)
            {
                Flush(paragraph, stripped);
            }

            paragraph.Append(heading.IsHeading ? heading.Text : content).Append(isQuote && content.IsEmpty ? "\n" : ending);
            if (standsAlone)
            {
                Flush(paragraph, stripped);
            }
        }

        Flush(paragraph, stripped);
    }

    private static void Flush(StringBuilder paragraph, StringBuilder stripped)
    {
        if (paragraph.Length > 0)
        {
            MarkdownInlines.Strip(paragraph.ToString(), stripped);
            paragraph.Clear();
        }
    }

    // ---, ***, ___ with or without blanks, and the === or --- below a heading.
    private static bool IsRule(ReadOnlySpan<char> line)
    {
        var content = line.Trim();
        if (content.Length < 3 || content[0] is not ('-' or '*' or '_' or '=') || line.Length - line.TrimStart(' ').Length > 3)
        {
            return false;
        }

        return !content.ContainsAnyExcept(content[0], ' ') && content.Count(content[0]) >= 3;
    }

    // [name]: address
    private static bool IsDefinition(ReadOnlySpan<char> line)
    {
        var content = line.TrimStart(' ');
        if (!content.StartsWith('[') || line.Length - content.Length > 3)
        {
            return false;
        }

        var close = content.IndexOf("]:");
        var address = close < 0 ? default : content[(close + 2)..].TrimStart(' ');
        return close > 1 && content[1] != '^' && !content[1..close].ContainsAny('[', ']')
            && (address.Contains("://", StringComparison.Ordinal) || address.StartsWith('/') || address.StartsWith('#') || address.StartsWith('.') || address.StartsWith('<'));
    }

    private static HeadingLine Heading(ReadOnlySpan<char> line)
    {
        var content = line.TrimStart(' ');
        var level = content.Length - content.TrimStart('#').Length;
        if (line.Length - content.Length > 3 || level is 0 or > 6 || (content.Length > level && content[level] is not (' ' or '\t')))
        {
            return default;
        }

        var text = content[level..].Trim();
        var closed = text.TrimEnd('#');
        return new HeadingLine(true, closed.Length < text.Length && (closed.IsEmpty || char.IsWhiteSpace(closed[^1])) ? closed.TrimEnd() : text);
    }

    private static bool TrimQuote(ref ReadOnlySpan<char> line)
    {
        var content = line.TrimStart(' ');
        if (line.Length - content.Length > 3 || !content.StartsWith('>'))
        {
            return false;
        }

        while (content.StartsWith('>'))
        {
            content = content[1..];
            content = content.StartsWith(' ') ? content[1..] : content;
        }

        line = content;
        return true;
    }

    private readonly ref struct HeadingLine(bool isHeading, ReadOnlySpan<char> text)
    {
        public bool IsHeading { get; } = isHeading;

        public ReadOnlySpan<char> Text { get; } = text;
    }
}
