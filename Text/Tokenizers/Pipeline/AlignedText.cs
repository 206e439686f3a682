namespace LlmPipeline.Text;

/// <summary>Text on its way to a model, and for each of its chars the range of the source that it came from.</summary>
internal sealed class AlignedText
{
    private readonly ReadOnlyMemory<char> _chars;
    private readonly int[]? _begins;
    private readonly int[]? _ends;

    /// <summary>The source itself.</summary>
    public AlignedText(ReadOnlyMemory<char> source) => _chars = source;

    /// <param name="chars">The text.</param>
    /// <param name="begins">Source position of each char.</param>
    /// <param name="ends">Source position behind each char.</param>
    public AlignedText(ReadOnlyMemory<char> chars, int[] begins, int[] ends) => (_chars, _begins, _ends) = (chars, begins, ends);

    public int Length => _chars.Length;

    public ReadOnlySpan<char> Span => _chars.Span;

    /// <summary>Source position of a char.</summary>
    public int BeginOf(int index) => _begins is null ? index : _begins[index];

    /// <summary>Source position behind a char.</summary>
    public int EndOf(int index) => _ends is null ? index + 1 : _ends[index];

    /// <summary>The whole text as one piece.</summary>
    public Piece Whole => new(this, 0, Length);
}

/// <summary>A part of a text.</summary>
/// <param name="Text">The text.</param>
/// <param name="Start">First char.</param>
/// <param name="Length">Number of chars.</param>
internal readonly record struct Piece(AlignedText Text, int Start, int Length)
{
    public ReadOnlySpan<char> Span => Text.Span.Slice(Start, Length);

    public Piece Slice(int start, int length) => new(Text, Start + start, length);

    /// <summary>Source range of a range of the piece that is not empty.</summary>
    public (int Begin, int End) SourceOf(int start, int length) => (Text.BeginOf(Start + start), Text.EndOf(Start + start + length - 1));
}

/// <summary>Writes an aligned text, char by char.</summary>
internal sealed class AlignedTextBuilder(int capacity)
{
    private char[] _chars = new char[capacity];
    private int[] _begins = new int[capacity];
    private int[] _ends = new int[capacity];
    private int _length;

    public int Length => _length;

    /// <summary>Appends chars that all come from one range of the source.</summary>
    public void Append(ReadOnlySpan<char> chars, int begin, int end)
    {
        foreach (var c in chars)
        {
            Append(c, begin, end);
        }
    }

    public void Append(char c, int begin, int end)
    {
        if (_length == _chars.Length)
        {
            var size = Math.Max(16, 2 * _length);
            Array.Resize(ref _chars, size);
            Array.Resize(ref _begins, size);
            Array.Resize(ref _ends, size);
        }

        (_chars[_length], _begins[_length], _ends[_length]) = (c, begin, end);
        _length++;
    }

    /// <summary>Appends a part of another text.</summary>
    public void Append(AlignedText text, int start, int length)
    {
        for (var i = start; i < start + length; i++)
        {
            Append(text.Span[i], text.BeginOf(i), text.EndOf(i));
        }
    }

    public AlignedText ToText() => new(_chars.AsMemory(0, _length), _begins, _ends);
}
