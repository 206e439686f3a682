using System.Globalization;
using System.Text;

namespace LlmPipeline.Text;

/// <summary>
/// Byte-pair encoding over characters with an end-of-word mark (Sennrich et al. 2016), as subword-nmt does it: which pairs are merged,
/// in what order, and how a text is segmented with them. Its code files (version 0.2) are read and written.
/// </summary>
/// <example><code>
/// var bpe = ClassicBpe.Learn(words, merges: 1000); // words counted with ClassicBpe.Splitter
/// bpe.Segment("the lowest"); // "the low@@ est"
/// </code></example>
public sealed class ClassicBpe
{
    /// <summary>Ends the last character of a word.</summary>
    public const string EndOfWord = "</w>";

    private const string Header = "#version: 0.2";

    private readonly Dictionary<(string, string), int> _ranks = [];

    private ClassicBpe(IReadOnlyList<(string Left, string Right)> merges)
    {
        Merges = merges;
        for (var rank = 0; rank < merges.Count; rank++)
        {
            _ranks.TryAdd(merges[rank], rank);
        }
    }

    /// <summary>Cuts text into the words to count: at white space.</summary>
    public static IWordSplitter Splitter => TextSplitter.Blank;

    /// <summary>Pairs in the order in which they are merged.</summary>
    public IReadOnlyList<(string Left, string Right)> Merges { get; }

    /// <summary>
    /// Learns merges: the most frequent pair first; of equally frequent ones that with the greatest left, then the greatest right symbol by
    /// code points. The result depends on the counts alone.
    /// </summary>
    /// <param name="words">Counted with <see cref="Splitter"/>; white space and line feeds are not learned from.</param>
    /// <param name="merges">Number of merges; fewer are made when no pair is frequent enough any more.</param>
    /// <param name="minFrequency">Occurrences below which a pair is not merged.</param>
    /// <param name="progress">Gets the share done, 0 to 1.</param>
    /// <param name="cancellationToken">Stops the learning.</param>
    public static ClassicBpe Learn(WordCounts words, int merges, long minFrequency = 2, Action<double>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(words);
        var names = new List<string>();
        var ids = new Dictionary<string, int>(StringComparer.Ordinal);
        var learner = new PairLearner(
            Words(words).Select(w => (Array.ConvertAll(SymbolsOf(w.Word), IdOf), w.Count)),
            (a, b) => a.Left != b.Left ? CompareCodePoints(names[b.Left], names[a.Left]) : CompareCodePoints(names[b.Right], names[a.Right]));
        var learned = new List<(string, string)>(Math.Min(merges, 1 << 16));
        while (learned.Count < merges && learner.TryFindBest(minFrequency, out var left, out var right))
        {
            cancellationToken.ThrowIfCancellationRequested();
            learned.Add((names[left], names[right]));
            learner.Apply(left, right, IdOf(names[left] + names[right]));
            if (learned.Count % 64 == 0)
            {
                progress?.Invoke((double)learned.Count / merges);
            }
        }

        progress?.Invoke(1);
        return new ClassicBpe(learned);

        int IdOf(string symbol)
        {
            if (!ids.TryGetValue(symbol, out var id))
            {
                ids.Add(symbol, id = names.Count);
                names.Add(symbol);
            }

            return id;
        }
    }

    /// <summary>Reads a code file.</summary>
    /// <param name="reader">The file.</param>
    /// <param name="name">What messages call it.</param>
    /// <exception cref="InvalidDataException">It is something else; the message names the line.</exception>
    public static ClassicBpe Read(TextReader reader, string name)
    {
        ArgumentNullException.ThrowIfNull(reader);
        if (reader.ReadLine()?.TrimEnd('\r') != Header)
        {
            throw new InvalidDataException($"{name}: line 1 has to be '{Header}'.");
        }

        var merges = new List<(string, string)>();
        for (var line = 2; reader.ReadLine() is { } text; line++)
        {
            merges.Add(text.Trim('\r', ' ').Split(' ') is [{ Length: > 0 } left, { Length: > 0 } right] ? (left, right) : throw new InvalidDataException(
                string.Create(CultureInfo.InvariantCulture, $"{name}: line {line} is not a pair of symbols with a space between them.")));
        }

        return new ClassicBpe(merges);
    }

    /// <summary>Writes a code file.</summary>
    public void Write(TextWriter writer)
    {
        ArgumentNullException.ThrowIfNull(writer);
        writer.Write(Header + "\n");
        foreach (var (left, right) in Merges)
        {
            writer.Write($"{left} {right}\n");
        }
    }

    /// <summary>Segments a line: words are separated by spaces, and all parts of a word but the last end in a separator.</summary>
    public string Segment(string line, string separator = "@@")
    {
        ArgumentNullException.ThrowIfNull(line);
        var output = new StringBuilder();
        foreach (var word in line.Trim('\r', '\n', ' ').Split(' ', StringSplitOptions.RemoveEmptyEntries))
        {
            var parts = SegmentWord(word);
            for (var i = 0; i < parts.Count; i++)
            {
                output.Append(output.Length > 0 ? " " : "").Append(parts[i]).Append(i + 1 < parts.Count ? separator : "");
            }
        }

        return output.ToString();
    }

    /// <summary>The parts of a word, without the end-of-word mark.</summary>
    public IReadOnlyList<string> SegmentWord(string word)
    {
        ArgumentNullException.ThrowIfNull(word);
        var symbols = SymbolsOf(word).ToList();
        while (symbols.Count > 1)
        {
            var best = int.MaxValue;
            for (var i = 0; i + 1 < symbols.Count; i++)
            {
                best = Math.Min(best, _ranks.GetValueOrDefault((symbols[i], symbols[i + 1]), int.MaxValue));
            }

            if (best == int.MaxValue)
            {
                break;
            }

            var (left, right) = Merges[best];
            for (var i = 0; i + 1 < symbols.Count; i++)
            {
                if (symbols[i] == left && symbols[i + 1] == right)
                {
                    symbols[i] = left + right;
                    symbols.RemoveAt(i + 1);
                }
            }
        }

        symbols[^1] = symbols[^1][..^EndOfWord.Length];
        return symbols;
    }

    /// <summary>The characters of a word, the last one with its mark.</summary>
    internal static string[] SymbolsOf(string word)
    {
        string[] symbols = [.. word.EnumerateRunes().Select(r => r.ToString())];
        symbols[^1] += EndOfWord;
        return symbols;
    }

    /// <summary>The counted words that are learned from.</summary>
    internal static IEnumerable<(string Word, long Count)> Words(WordCounts counts)
    {
        for (var i = 0; i < counts.DistinctCount; i++)
        {
            var word = Encoding.UTF8.GetString(counts.WordAt(i));
            if (!char.IsWhiteSpace(word[0]))
            {
                yield return (word, counts.CountAt(i));
            }
        }
    }

    /// <summary>Order by code points, which differs from that of UTF-16 beyond U+FFFF.</summary>
    internal static int CompareCodePoints(string a, string b)
    {
        var length = Math.Min(a.Length, b.Length);
        for (var i = 0; i < length; i++)
        {
            if (a[i] != b[i])
            {
                return char.IsSurrogate(a[i]) == char.IsSurrogate(b[i]) ? a[i].CompareTo(b[i]) : char.IsSurrogate(a[i]) ? 1 : -1;
            }
        }

        return a.Length.CompareTo(b.Length);
    }
}
