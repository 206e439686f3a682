using System.Net;
using System.Text;

namespace LlmPipeline.Text.Cleaning;

/// <summary>
/// Strips markup: HTML tags, comments, scripts and styles go and entities are decoded; Markdown headings, emphasis, links, code marks
/// and rules lose their signs. Code between fences stays as it is. Nothing is ever refused: what is not well formed stays text. Work is
/// linear.
/// </summary>
internal static class MarkupStep
{
    /// <summary>The text without markup; the same instance where nothing changes.</summary>
    public static string Apply(string text)
    {
        var stripped = new StringBuilder(text.Length);
        var prose = 0;
        var fence = default(Fence);
        for (var start = 0; start < text.Length;)
        {
            var end = LineEnd(text, start);
            var line = text.AsSpan(start, end - start);
            if (fence.IsOpen)
            {
                if (fence.IsClosedBy(line))
                {
                    fence = default;
                    prose = end;
                }
                else
                {
                    stripped.Append(line);
                }
            }
            else if (Fence.TryOpen(line, out fence))
            {
                AppendProse(stripped, text[prose..start]);
                prose = text.Length;
            }

            start = end;
        }

        AppendProse(stripped, text[Math.Min(prose, text.Length)..]);
        return stripped.Equals(text.AsSpan()) ? text : stripped.ToString();
    }

    private static void AppendProse(StringBuilder stripped, string prose)
    {
        prose = HtmlStripper.Strip(prose);
        if (prose.Contains('&', StringComparison.Ordinal))
        {
            prose = WebUtility.HtmlDecode(prose);
        }

        MarkdownBlocks.Strip(prose, stripped);
    }

    // After the line feed.
    private static int LineEnd(string text, int start)
    {
        var length = text.AsSpan(start).IndexOf('\n');
        return length < 0 ? text.Length : start + length + 1;
    }

    // Three or more ` or ~, indented by at most three blanks.
    private readonly record struct Fence(char Mark, int Length)
    {
        public bool IsOpen => Length > 0;

        public static bool TryOpen(ReadOnlySpan<char> line, out Fence fence)
        {
            fence = Read(line, out var rest);
            fence = fence.Length >= 3 && !(fence.Mark == '`' && rest.Contains('`')) ? fence : default;
            return fence.IsOpen;
        }

        public bool IsClosedBy(ReadOnlySpan<char> line)
        {
            var other = Read(line, out var rest);
            return other.Mark == Mark && other.Length >= Length && rest.IsWhiteSpace();
        }

        private static Fence Read(ReadOnlySpan<char> line, out ReadOnlySpan<char> rest)
        {
            rest = line.TrimStart(' ');
            if (rest.IsEmpty || line.Length - rest.Length > 3 || rest[0] is not ('`' or '~'))
            {
                return default;
            }

            var mark = rest[0];
            var marked = rest.Length - rest.TrimStart(mark).Length;
            rest = rest[marked..];
            return new Fence(mark, marked);
        }
    }
}
