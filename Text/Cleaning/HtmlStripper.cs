using System.Text;

namespace LlmPipeline.Text.Cleaning;

/// <summary>
/// Removes HTML: tags of known elements (and those with a hyphen or colon in their name), comments, declarations, and the content of
/// scripts and styles. Elements that begin a block become a line end. <c>List&lt;int&gt;</c> and what is never closed stay. Work is linear.
/// </summary>
internal sealed class HtmlStripper
{
    private const int MaxTag = 1 << 16;

    private static readonly HashSet<string>.AlternateLookup<ReadOnlySpan<char>> Blocks = Names(
        "address article aside blockquote br body caption center dd details dialog dir div dl dt fieldset figcaption figure footer form frame frameset h1 h2 h3 h4 h5 h6 head header hgroup hr html legend li link main menu meta nav noscript ol optgroup option p pre section summary table tbody tfoot thead title tr ul");

    private static readonly HashSet<string>.AlternateLookup<ReadOnlySpan<char>> Inlines = Names(
        "a abbr acronym applet area audio b base basefont bdi bdo big blink button canvas cite code col colgroup data datalist del dfn em embed font i iframe img input ins kbd keygen label map mark marquee math meter nobr noframes object output param picture progress q rb rp rt rtc ruby s samp script search select slot small source span strike strong style sub sup svg td template textarea th time track tt u var video wbr path g");

    private readonly string _text;
    private readonly StringBuilder _stripped;

    // Where a search for an end found nothing: later ones find nothing either.
    private readonly HashSet<string> _absent = new(StringComparer.Ordinal);

    private HtmlStripper(string text)
    {
        _text = text;
        _stripped = new StringBuilder(text.Length);
    }

    /// <summary>The text without HTML; the same instance where there is none.</summary>
    public static string Strip(string text) => text.Contains('<', StringComparison.Ordinal) ? new HtmlStripper(text).Strip() : text;

    private static HashSet<string>.AlternateLookup<ReadOnlySpan<char>> Names(string names) =>
        new HashSet<string>(names.Split(' '), StringComparer.OrdinalIgnoreCase).GetAlternateLookup<ReadOnlySpan<char>>();

    private string Strip()
    {
        var kept = 0;
        for (var at = _text.IndexOf('<', StringComparison.Ordinal); at >= 0;)
        {
            _stripped.Append(_text, kept, at - kept);
            kept = at;
            var end = Construct(at);
            if (end > at)
            {
                kept = end;
            }

            at = _text.IndexOf('<', Math.Max(at + 1, end));
        }

        return _stripped.Append(_text, kept, _text.Length - kept).ToString();
    }

    // The end of what begins at a <, or -1 when it is text.
    private int Construct(int at)
    {
        var rest = _text.AsSpan(at);
        if (rest.StartsWith("<!--"))
        {
            return EndAfter("-->", at + 4);
        }

        if (rest.StartsWith("<![CDATA["))
        {
            var close = EndAfter("]]>", at + 9);
            if (close > 0)
            {
                _stripped.Append(_text, at + 9, close - at - 12);
            }

            return close;
        }

        if (rest.StartsWith("<!doctype", StringComparison.OrdinalIgnoreCase))
        {
            return EndAfter(">", at);
        }

        return rest.StartsWith("<?xml") ? EndAfter("?>", at) : Tag(at);
    }

    private int Tag(int at)
    {
        var closes = at + 1 < _text.Length && _text[at + 1] == '/';
        var start = at + (closes ? 2 : 1);
        var nameEnd = start;
        while (nameEnd < _text.Length && nameEnd - start <= 64 && (char.IsAsciiLetterOrDigit(_text[nameEnd]) || (nameEnd > start && _text[nameEnd] is '-' or ':')))
        {
            nameEnd++;
        }

        var name = _text.AsSpan(start, nameEnd - start);
        var isBlock = Blocks.Contains(name);
        if (!isBlock && !Inlines.Contains(name) && !IsCustom(name))
        {
            return -1;
        }

        var end = TagEnd(nameEnd);
        if (end < 0)
        {
            return -1;
        }

        if (isBlock)
        {
            if (_stripped.Length > 0 && _stripped[^1] != '\n')
            {
                _stripped.Append('\n');
            }
        }
        else if (name.Equals("td", StringComparison.OrdinalIgnoreCase) || name.Equals("th", StringComparison.OrdinalIgnoreCase))
        {
            if (_stripped.Length > 0 && !char.IsWhiteSpace(_stripped[^1]))
            {
                _stripped.Append(' ');
            }
        }

        return closes || _text[end - 2] == '/' ? end
            : name.Equals("script", StringComparison.OrdinalIgnoreCase) ? AfterElement("</script", end)
            : name.Equals("style", StringComparison.OrdinalIgnoreCase) ? AfterElement("</style", end)
            : end;
    }

    // <https://...> is a Markdown link, not a tag.
    private static bool IsCustom(ReadOnlySpan<char> name) =>
        name.Length > 2 && char.IsAsciiLetter(name[0]) && char.IsAsciiLetterOrDigit(name[^1]) && name.IndexOfAny('-', ':') > 0 && !name.StartsWith("mailto:", StringComparison.OrdinalIgnoreCase);

    // After the > that ends a tag whose name ends here; a > in a quoted value does not. -1 when there is none before the next <.
    private int TagEnd(int at)
    {
        if (at < _text.Length && !(char.IsWhiteSpace(_text[at]) || _text[at] is '>' or '/'))
        {
            return -1;
        }

        var limit = Math.Min(_text.Length, at + MaxTag);
        while (at < limit)
        {
            switch (_text[at])
            {
                case '>':
                    return at + 1;
                case '<':
                    return -1;
                case '"' or '\'' when _text[at - 1] == '=':
                    var close = _text.AsSpan(at + 1, limit - at - 1).IndexOf(_text[at]);
                    at += close < 0 ? 1 : close + 2;
                    break;
                default:
                    at++;
                    break;
            }
        }

        return -1;
    }

    private int AfterElement(string close, int start)
    {
        var end = EndAfter(close, start);
        return end < 0 ? start : TagEnd(end) is > 0 and var after ? after : end;
    }

    private int EndAfter(string mark, int start)
    {
        if (_absent.Contains(mark))
        {
            return -1;
        }

        var found = _text.IndexOf(mark, Math.Min(start, _text.Length), StringComparison.OrdinalIgnoreCase);
        if (found < 0)
        {
            _absent.Add(mark);
            return -1;
        }

        return found + mark.Length;
    }
}
