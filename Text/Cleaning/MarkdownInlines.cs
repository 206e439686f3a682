using System.Buffers;
using System.Text;

namespace LlmPipeline.Text.Cleaning;

/// <summary>
/// Removes the signs of Markdown within a paragraph: emphasis, code marks, links and images (their text stays), automatic links and
/// escapes. Signs without a partner stay, and so do <c>snake_case</c> and <c>2 * 3</c>. Work is linear.
/// </summary>
internal sealed class MarkdownInlines
{
    private static readonly SearchValues<char> Escapable = SearchValues.Create("\\`*_{}[]()#+-.!|~>");

    private static readonly SearchValues<char> Signs = SearchValues.Create("*_~`[]\\<");

    private readonly string _text;
    private readonly bool[] _removed;

    // Runs that may begin emphasis: start and length that is left, by sign.
    private readonly Dictionary<char, Stack<(int Start, int Length)>> _openers = new() { ['*'] = [], ['_'] = [], ['~'] = [] };
    private readonly Stack<int> _brackets = [];

    // Where a run of so many ` begins for the last time. A run whose first ` is escaped is shorter than it was counted.
    private readonly Dictionary<int, int> _lastCode = [];

    private MarkdownInlines(string text)
    {
        _text = text;
        _removed = new bool[text.Length];
    }

    /// <summary>Appends a paragraph without its signs.</summary>
    public static void Strip(string paragraph, StringBuilder stripped)
    {
        if (paragraph.AsSpan().IndexOfAny(Signs) < 0)
        {
            stripped.Append(paragraph);
            return;
        }

        var inlines = new MarkdownInlines(paragraph);
        inlines.Mark();
        for (var i = 0; i < paragraph.Length; i++)
        {
            if (!inlines._removed[i])
            {
                stripped.Append(paragraph[i]);
            }
        }
    }

    private void Mark()
    {
        for (var at = 0; at < _text.Length; at++)
        {
            if (_text[at] == '`')
            {
                var length = RunLength(at);
                _lastCode[length] = at;
                at += length - 1;
            }
        }

        for (var at = 0; at < _text.Length;)
        {
            var next = _text.AsSpan(at).IndexOfAny(Signs);
            if (next < 0)
            {
                break;
            }

            at += next;
            at = _text[at] switch
            {
                '\\' => Escape(at),
                '`' => Code(at),
                '[' => OpenBracket(at),
                ']' => CloseBracket(at),
                '<' => AutomaticLink(at),
                _ => Emphasis(at),
            };
        }
    }

    private int RunLength(int at)
    {
        var length = _text.AsSpan(at).IndexOfAnyExcept(_text[at]);
        return length < 0 ? _text.Length - at : length;
    }

    private void Remove(int start, int length) => _removed.AsSpan(start, length).Fill(true);

    private int Escape(int at)
    {
        if (at + 1 < _text.Length && Escapable.Contains(_text[at + 1]))
        {
            Remove(at, 1);
            return at + 2;
        }

        return at + 1;
    }

    private int Code(int at)
    {
        var length = RunLength(at);
        for (var from = at + length; _lastCode.GetValueOrDefault(length, -1) > at && from < _text.Length;)
        {
            var found = _text.AsSpan(from).IndexOf('`');
            if (found < 0)
            {
                break;
            }

            var run = RunLength(from + found);
            if (run == length)
            {
                Remove(at, length);
                Remove(from + found, length);
                return from + found + length;
            }

            from += found + run;
        }

        return at + length;
    }

    private int OpenBracket(int at)
    {
        _brackets.Push(at);
        return at + 1;
    }

    private int CloseBracket(int at)
    {
        if (!_brackets.TryPop(out var open))
        {
            return at + 1;
        }

        var isImage = open > 0 && _text[open - 1] == '!';
        var end = at + 1 < _text.Length ? _text[at + 1] switch { '(' => AddressEnd(at + 1), '[' => ReferenceEnd(at + 1), _ => -1 } : -1;
        if (end < 0 || (at == open + 1 && !isImage))
        {
            return at + 1;
        }

        Remove(open, 1);
        Remove(at, end - at);
        if (isImage)
        {
            Remove(open - 1, 1);
        }

        return end;
    }

    // After the ) of an address; it holds no bracket, which keeps the work linear.
    private int AddressEnd(int at)
    {
        var depth = 0;
        for (; at < _text.Length && _text[at] is not ('[' or ']' or '\n'); at++)
        {
            depth += _text[at] == '(' ? 1 : _text[at] == ')' ? -1 : 0;
            if (depth == 0)
            {
                return at + 1;
            }
        }

        return -1;
    }

    // [text][name] and [text][]
    private int ReferenceEnd(int at)
    {
        var length = _text.AsSpan(at + 1).IndexOfAny('[', ']', '\n');
        return length >= 0 && _text[at + 1 + length] == ']' ? at + length + 2 : -1;
    }

    // <https://...>, <mailto:...>
    private int AutomaticLink(int at)
    {
        var length = _text.AsSpan(at + 1).IndexOfAny("<> \n");
        if (length > 0 && _text[at + 1 + length] == '>')
        {
            var address = _text.AsSpan(at + 1, length);
            if (address.StartsWith("http://") || address.StartsWith("https://") || address.StartsWith("mailto:"))
            {
                Remove(at, 1);
                Remove(at + 1 + length, 1);
                return at + length + 2;
            }
        }

        return at + 1;
    }

    private int Emphasis(int at)
    {
        var sign = _text[at];
        var length = RunLength(at);
        var before = at == 0 ? ' ' : _text[at - 1];
        var after = at + length == _text.Length ? ' ' : _text[at + length];
        var canOpen = !char.IsWhiteSpace(after) && !(sign == '_' && char.IsLetterOrDigit(before));
        var canClose = !char.IsWhiteSpace(before) && !(sign == '_' && char.IsLetterOrDigit(after));
        if (sign == '~' && length != 2)
        {
            return at + length;
        }

        var start = at;
        var left = length;
        var openers = _openers[sign];
        while (canClose && left > 0 && openers.TryPop(out var opener))
        {
            var taken = Math.Min(left, opener.Length);
            Remove(opener.Start + opener.Length - taken, taken);
            Remove(start, taken);
            start += taken;
            left -= taken;
            if (opener.Length > taken)
            {
                openers.Push((opener.Start, opener.Length - taken));
            }
        }

        if (canOpen && left > 0)
        {
            openers.Push((start, left));
        }

        return at + length;
    }
}
