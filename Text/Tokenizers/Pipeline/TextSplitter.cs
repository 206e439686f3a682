using System.Buffers;
using System.Globalization;
using System.Text;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Text;

/// <summary>Length in chars of the first part of a text that is not empty, and whether it is a word: what is none has no tokens.</summary>
internal delegate int FirstPart(ReadOnlySpan<char> text, out bool isWord);

/// <summary>How the kinds of this project other than byte-level BPE cut text.</summary>
internal sealed class TextSplitter : IWordSplitter
{
    private TextSplitter(string name, string pattern, FirstPart firstPart, SplitBehavior behavior = SplitBehavior.Isolated, bool invert = false) =>
        (Name, Pattern, FirstPart, Behavior, Invert) = (name, pattern, firstPart, behavior, invert);

    /// <summary>Unicode words (UAX 29), each with the one space before it; other white space a character at a time.</summary>
    public static TextSplitter Word { get; } = new("word", @"(?y{w}) ?(?=\S)\X|\s", FirstWord);

    /// <summary>Extended grapheme clusters (UAX 29).</summary>
    public static TextSplitter Grapheme { get; } = new("grapheme", @"\X", FirstGrapheme);

    /// <summary>Code points.</summary>
    public static TextSplitter Character { get; } = new("character", @"[\s\S]", FirstCharacter);

    /// <summary>What white space separates, and line feeds; other white space is dropped.</summary>
    public static TextSplitter Blank { get; } = new("blank", @"\n|\S+", FirstBlank, SplitBehavior.Removed, invert: true);

    private static TextSplitter[] All { get; } = [Word, Grapheme, Character, Blank];

    /// <inheritdoc/>
    public string Name { get; }

    /// <summary>In the syntax of Oniguruma, which files of other implementations use.</summary>
    public string Pattern { get; }

    /// <summary>Cuts the first part off a text.</summary>
    public FirstPart FirstPart { get; }

    /// <summary>How a file says what becomes of the matches.</summary>
    public SplitBehavior Behavior { get; }

    /// <summary>Whether a file says that the matches are the words.</summary>
    public bool Invert { get; }

    /// <summary>The splitter of a pattern; null when it is none of these.</summary>
    public static TextSplitter? Find(string pattern) => Array.Find(All, s => s.Pattern == pattern);

    /// <summary>See <see cref="ITokenizer.LastSafeCut"/>.</summary>
    public static int LastSafeCut(ReadOnlySpan<byte> utf8, FirstPart firstPart)
    {
        if (firstPart == Character.FirstPart)
        {
            return Utf8Text.WholeCharacters(utf8);
        }

        if (firstPart != Grapheme.FirstPart)
        {
            // A space or a line feed begins a part, whatever is before it, and what is before it does not see beyond.
            return Math.Max(0, utf8.LastIndexOfAny((byte)' ', (byte)'\n'));
        }

        // Two ASCII characters but CR LF are never one cluster.
        for (var i = utf8.Length - 1; i > 0; i--)
        {
            if (utf8[i] < 0x80 && utf8[i - 1] < 0x80 && utf8[i - 1] != '\r')
            {
                return i;
            }
        }

        return 0;
    }

    /// <inheritdoc/>
    public void Split<TSink>(ReadOnlySpan<byte> utf8, ref TSink sink)
        where TSink : IWordSink, allows ref struct
    {
        var chars = ArrayPool<char>.Shared.Rent(Encoding.UTF8.GetMaxCharCount(utf8.Length));
        try
        {
            ReadOnlySpan<char> text = chars.AsSpan(0, Encoding.UTF8.GetChars(utf8, chars));
            var start = 0;
            while (!text.IsEmpty)
            {
                var length = FirstPart(text, out _);
                var end = start + Encoding.UTF8.GetByteCount(text[..length]);
                sink.Add(utf8, start, end);
                start = end;
                text = text[length..];
            }
        }
        finally
        {
            ArrayPool<char>.Shared.Return(chars);
        }
    }

    /// <inheritdoc/>
    public int LastSafeCut(ReadOnlySpan<byte> utf8) => LastSafeCut(utf8, FirstPart);

    private static int FirstWord(ReadOnlySpan<char> text, out bool isWord)
    {
        isWord = true;
        if (!char.IsWhiteSpace(text[0]))
        {
            return WordBreaks.FirstLength(text);
        }

        return text[0] == ' ' && text.Length > 1 && !char.IsWhiteSpace(text[1]) ? 1 + WordBreaks.FirstLength(text[1..]) : 1;
    }

    private static int FirstGrapheme(ReadOnlySpan<char> text, out bool isWord)
    {
        isWord = true;
        return StringInfo.GetNextTextElementLength(text);
    }

    private static int FirstCharacter(ReadOnlySpan<char> text, out bool isWord)
    {
        isWord = true;
        Rune.DecodeFromUtf16(text, out _, out var length);
        return length;
    }

    private static int FirstBlank(ReadOnlySpan<char> text, out bool isWord)
    {
        isWord = text[0] == '\n' || !char.IsWhiteSpace(text[0]);
        var length = 1;
        while (text[0] != '\n' && length < text.Length && text[length] != '\n' && char.IsWhiteSpace(text[length]) == !isWord)
        {
            length++;
        }

        return length;
    }
}
