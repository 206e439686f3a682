using System.Runtime.CompilerServices;

namespace LlmPipeline.Text;

/// <summary>Where a word ends, found without backtracking.</summary>
internal interface IWordScanner
{
    /// <summary>The end of the word that begins at a place of valid UTF-8.</summary>
    static abstract int WordEnd(ReadOnlySpan<byte> utf8, int start);
}

/// <summary>A known pattern, written by hand over code points: one pass.</summary>
internal sealed class ScanningSplitter<TScanner>(string name, string pattern) : IWordSplitter
    where TScanner : struct, IWordScanner
{
    public string Name => name;

    public string Pattern => pattern;

    public void Split<TSink>(ReadOnlySpan<byte> utf8, ref TSink sink)
        where TSink : IWordSink, allows ref struct
    {
        for (var start = 0; start < utf8.Length;)
        {
            var end = TScanner.WordEnd(utf8, start);
            sink.Add(utf8, start, end);
            start = end;
        }
    }

    public int LastSafeCut(ReadOnlySpan<byte> utf8) => CharacterClasses.LastCutAfterLetter(utf8);
}

/// <summary>The patterns; see <see cref="WordSplitter"/>.</summary>
internal readonly struct Gpt2Scanner : IWordScanner
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int WordEnd(ReadOnlySpan<byte> utf8, int start)
    {
        if (utf8[start] == '\'' && Scan.ContractionEnd(utf8, start, ignoreCase: false) is > 0 and var contraction)
        {
            return contraction;
        }

        var begin = utf8[start] == ' ' && start + 1 < utf8.Length ? start + 1 : start;
        var kind = CharacterClasses.At(utf8, begin, out var length);
        if ((kind & CharacterClasses.Letter) != 0)
        {
            return CharacterClasses.RunEnd(utf8, begin + length, CharacterClasses.Letter);
        }

        if ((kind & CharacterClasses.Symbols) != 0)
        {
            return CharacterClasses.RunEnd(utf8, begin + length, CharacterClasses.Symbols);
        }

        return (kind & CharacterClasses.Number) != 0
            ? CharacterClasses.RunEnd(utf8, begin + length, CharacterClasses.Number)
            : Scan.SpacesEnd(utf8, start);
    }
}

/// <inheritdoc cref="Gpt2Scanner"/>
internal readonly struct Gpt4Scanner : IWordScanner
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int WordEnd(ReadOnlySpan<byte> utf8, int start) =>
        utf8[start] == '\'' && Scan.ContractionEnd(utf8, start, ignoreCase: true) is > 0 and var contraction
            ? contraction
            : Scan.LineAwareEnd(utf8, start, CharacterClasses.Letter);
}

/// <inheritdoc cref="Gpt2Scanner"/>
internal readonly struct DefaultScanner : IWordScanner
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int WordEnd(ReadOnlySpan<byte> utf8, int start) =>
        Scan.LineAwareEnd(utf8, start, CharacterClasses.Letter | CharacterClasses.Mark | CharacterClasses.Joiner);
}

/// <summary>What the patterns have in common.</summary>
file static class Scan
{
    // A letter, or one that follows any other character but a number or the end of a line, and what belongs to it; up to three numbers;
    // symbols with the ends of lines behind them; space up to the last end of a line.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int LineAwareEnd(ReadOnlySpan<byte> utf8, int start, byte word)
    {
        var kind = CharacterClasses.At(utf8, start, out var length);
        var next = start + length;
        if ((kind & CharacterClasses.Letter) != 0)
        {
            return CharacterClasses.RunEnd(utf8, next, word);
        }

        if ((kind & (CharacterClasses.Number | CharacterClasses.NewLine)) == 0 && next < utf8.Length)
        {
            var second = CharacterClasses.At(utf8, next, out length);
            if ((second & CharacterClasses.Letter) != 0)
            {
                return CharacterClasses.RunEnd(utf8, next + length, word);
            }

            if (utf8[start] == ' ' && (second & CharacterClasses.Symbols) != 0)
            {
                (kind, next) = (second, next + length);
            }
        }

        if ((kind & CharacterClasses.Symbols) != 0)
        {
            return CharacterClasses.RunEnd(utf8, CharacterClasses.RunEnd(utf8, next, CharacterClasses.Symbols), CharacterClasses.NewLine);
        }

        return (kind & CharacterClasses.Number) != 0 ? NumbersEnd(utf8, next) : SpacesOrLinesEnd(utf8, start);
    }

    // \s+(?!\S)|\s+
    public static int SpacesEnd(ReadOnlySpan<byte> utf8, int start)
    {
        var (last, end) = (start, start);
        while (end < utf8.Length && (CharacterClasses.At(utf8, end, out var length) & CharacterClasses.Space) != 0)
        {
            (last, end) = (end, end + length);
        }

        return end == utf8.Length || last == start ? end : last;
    }

    public static int ContractionEnd(ReadOnlySpan<byte> utf8, int start, bool ignoreCase)
    {
        var fold = ignoreCase ? 0x20 : 0;
        if (start + 1 >= utf8.Length)
        {
            return 0;
        }

        var third = start + 2 < utf8.Length ? utf8[start + 2] | fold : 0;
        return (utf8[start + 1] | fold) switch
        {
            's' or 't' or 'm' or 'd' => start + 2,
            'r' or 'v' when third == 'e' => start + 3,
            'l' when third == 'l' => start + 3,
            _ => 0,
        };
    }

    private static int NumbersEnd(ReadOnlySpan<byte> utf8, int next)
    {
        for (var count = 1; count < 3 && next < utf8.Length && (CharacterClasses.At(utf8, next, out var length) & CharacterClasses.Number) != 0; count++)
        {
            next += length;
        }

        return next;
    }

    private static int SpacesOrLinesEnd(ReadOnlySpan<byte> utf8, int start)
    {
        var (lines, last, end) = (0, start, start);
        while (end < utf8.Length && CharacterClasses.At(utf8, end, out var length) is var kind && (kind & CharacterClasses.Space) != 0)
        {
            (last, end) = (end, end + length);
            lines = (kind & CharacterClasses.NewLine) != 0 ? end : lines;
        }

        return lines > 0 ? lines : end == utf8.Length || last == start ? end : last;
    }
}
