using System.Text;

namespace LlmPipeline.Text.Cleaning;

/// <summary>
/// Quality filters of whole documents, after Rae et al. 2021 (Scaling Language Models, appendix A). Work is linear, and memory bounded:
/// repetition is measured on the first <see cref="MaxUnits"/> lines or words.
/// </summary>
internal sealed class QualityFilter(QualityOptions options)
{
    /// <summary>Lines or words that are looked at.</summary>
    public const int MaxUnits = 1 << 20;

    /// <summary>Words of the n-grams whose repetition is measured.</summary>
    public const int NgramWords = 4;

    /// <summary>Why the document is to be left out, or null.</summary>
    public DropReason? Judge(string text)
    {
        if (options.MinCharacters > 0 || options.MaxCharacters > 0)
        {
            var characters = CodePoints.Count(text);
            if (characters < options.MinCharacters)
            {
                return DropReason.TooShort;
            }

            if (options.MaxCharacters > 0 && characters > options.MaxCharacters)
            {
                return DropReason.TooLong;
            }
        }

        return options.MaxSymbolRatio > 0 && SymbolRatio(text) > options.MaxSymbolRatio ? DropReason.Symbols
            : options.MaxRepeatedLineRatio > 0 && RepeatedLineRatio(text) > options.MaxRepeatedLineRatio ? DropReason.RepeatedLines
            : options.MaxRepeatedNgramRatio > 0 && RepeatedNgramRatio(text) > options.MaxRepeatedNgramRatio ? DropReason.RepeatedNgrams
            : null;
    }

    /// <summary>The share of code points that are neither letters, marks, digits nor white space.</summary>
    public static double SymbolRatio(string text)
    {
        long symbols = 0;
        long all = 0;
        foreach (var rune in text.EnumerateRunes())
        {
            all++;
            symbols += WordCharacters.ClassOf(rune.Value) == WordClass.None && !Rune.IsWhiteSpace(rune) ? 1 : 0;
        }

        return all == 0 ? 0 : (double)symbols / all;
    }

    /// <summary>The share of characters in lines that occurred before in the document. Lines are trimmed, and blank ones do not count.</summary>
    public static double RepeatedLineRatio(string text)
    {
        var seen = new HashSet<ulong>();
        long repeated = 0;
        long all = 0;
        var lines = 0;
        foreach (var range in text.AsSpan().Split('\n'))
        {
            var line = text.AsSpan()[range].Trim();
            if (line.IsEmpty)
            {
                continue;
            }

            if (++lines > MaxUnits)
            {
                break;
            }

            all += line.Length;
            repeated += seen.Add(Hash(line)) ? 0 : line.Length;
        }

        return all == 0 ? 0 : (double)repeated / all;
    }

    /// <summary>
    /// The share of characters, white space apart, in the most frequent word 4-gram (of several, in the one with most characters). Words
    /// are what white space divides, and single characters in scripts without blanks; a 4-gram that occurs once does not count, and a
    /// character counts once where occurrences overlap.
    /// </summary>
    public static double RepeatedNgramRatio(string text)
    {
        var grams = new Dictionary<ulong, (int Count, long Characters, int LastWord)>();
        Span<int> lengths = stackalloc int[NgramWords];
        var ngrams = new NgramHash(stackalloc ulong[NgramWords]);
        long all = 0;
        var word = 0;
        for (var at = 0; NextWord(text, ref at, out var length) && word < MaxUnits; word++)
        {
            all += length;
            lengths[word % NgramWords] = length;
            ngrams.Add(Hash(text.AsSpan(at - length, length)));
            if (!ngrams.IsFull)
            {
                continue;
            }

            ref var gram = ref System.Runtime.InteropServices.CollectionsMarshal.GetValueRefOrAddDefault(grams, ngrams.Value, out var known);
            var covered = known ? Math.Clamp(gram.LastWord - (word - NgramWords), 0, NgramWords) : 0;
            for (var i = covered; i < NgramWords; i++)
            {
                gram.Characters += lengths[(word - NgramWords + 1 + i) % NgramWords];
            }

            gram.Count++;
            gram.LastWord = word;
        }

        var (most, characters) = (1, 0L);
        foreach (var gram in grams.Values)
        {
            if (gram.Count > 1 && (gram.Count > most || (gram.Count == most && gram.Characters > characters)))
            {
                (most, characters) = (gram.Count, gram.Characters);
            }
        }

        return all == 0 ? 0 : (double)characters / all;
    }

    // Moves behind the next word.
    private static bool NextWord(string text, ref int at, out int length)
    {
        while (at < text.Length && char.IsWhiteSpace(text[at]))
        {
            at++;
        }

        var start = at;
        while (at < text.Length && !char.IsWhiteSpace(text[at]))
        {
            var isAlone = WordCharacters.IsWithoutBlanks(text[at]) && WordCharacters.ClassOf(text[at]) == WordClass.Alone;
            if (isAlone && at > start)
            {
                break;
            }

            at++;
            if (isAlone)
            {
                break;
            }
        }

        length = at - start;
        return length > 0;
    }

    private static ulong Hash(ReadOnlySpan<char> text)
    {
        var hash = 0xCBF29CE484222325;
        foreach (var character in text)
        {
            hash = (hash ^ character) * 0x100000001B3;
        }

        return Hashing.Mix(hash);
    }
}
