using System.Text;

namespace LlmPipeline.Text.Sources;

/// <summary>Builds text out of markup: runs of white space become one space, lines break where told, code keeps its lines.</summary>
internal sealed class InlineText
{
    private readonly StringBuilder _text = new();
    private bool _space;
    private int _sectionStart;
    private int _labelEnd;

    /// <summary>Whether white space is kept as it is.</summary>
    public bool Verbatim { get; set; }

    public int Length => _text.Length;

    public void BeginSection(string label)
    {
        _sectionStart = _text.Length;
        _text.Append(label);
        _labelEnd = _text.Length;
        _space = false;
    }

    /// <summary>Ends the section's line; a section without text leaves nothing, not even its label.</summary>
    public void EndSection()
    {
        BreakLine();
        if (_text.Length == _labelEnd)
        {
            _text.Length = _sectionStart;
        }
    }

    public void Append(string text)
    {
        if (Verbatim && text.Contains('\n'))
        {
            BreakLine();
            _text.Append(text.Trim('\r', '\n').ReplaceLineEndings("\n").TrimEnd());
            BreakLine();
            return;
        }

        foreach (var c in text)
        {
            if (char.IsWhiteSpace(c))
            {
                _space = true;
                continue;
            }

            if (_space && _text.Length > _labelEnd && _text[^1] != '\n')
            {
                _text.Append(' ');
            }

            _space = false;
            _text.Append(c);
        }
    }

    /// <summary>Begins a new line, unless at the start of one.</summary>
    public void BreakLine()
    {
        _space = false;
        if (_text.Length > _labelEnd && _text[^1] != '\n')
        {
            _text.Append('\n');
        }
    }

    public override string ToString() => _text.ToString();
}
