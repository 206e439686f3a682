using System.Runtime.InteropServices;
using System.Text;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Text.Reports;

/// <summary>Gathers the figures of a tokenizer report. Not safe for use from two threads at once.</summary>
/// <param name="name">What the report calls the tokenizer.</param>
/// <param name="tokenizer">The tokenizer.</param>
/// <param name="reference">A tokenizer to compare with, and what the report calls it.</param>
/// <example><code>
/// var reporter = new TokenizerReporter("mine", tokenizer, ("GPT-2", TokenizerFile.Load("gpt2/")));
/// reporter.Add("eng", File.ReadAllBytes("eng.txt"));
/// File.WriteAllText("report.md", reporter.ToReport().ToMarkdown());
/// </code></example>
public sealed class TokenizerReporter(string name, ITokenizer tokenizer, (string Name, ITokenizer Tokenizer)? reference = null)
{
    private const string TextField = "text";
    private const long UnitBytes = 16 << 20;

    private readonly List<string> _order = [];
    private readonly Dictionary<string, Sums> _sums = new(StringComparer.Ordinal);
    private readonly List<int> _ids = [];

    /// <summary>Measures a text.</summary>
    /// <param name="label">Texts with the same label are added up.</param>
    /// <param name="utf8">The text.</param>
    public void Add(string label, ReadOnlySpan<byte> utf8)
    {
        ref var sums = ref CollectionsMarshal.GetValueRefOrAddDefault(_sums, label, out var exists);
        if (!exists)
        {
            _order.Add(label);
        }

        sums.Bytes += utf8.Length;
        sums.Characters += Utf8Text.CountCharacters(utf8);
        sums.Words += CountWords(utf8);
        _ids.Clear();
        tokenizer.Encode(utf8, _ids);
        sums.Tokens += _ids.Count;
        if (tokenizer.UnknownId is { } unknown)
        {
            sums.Unknown += CollectionsMarshal.AsSpan(_ids).Count(unknown);
        }

        if (reference is { } other)
        {
            _ids.Clear();
            other.Tokenizer.Encode(utf8, _ids);
            sums.ReferenceTokens += _ids.Count;
        }
    }

    /// <summary>Measures the documents of sources, as they are.</summary>
    /// <param name="label">Their label.</param>
    /// <param name="sources">See <see cref="SourceFiles.FindAsync"/>.</param>
    /// <param name="options">How sources are found and read.</param>
    /// <param name="maxBytes">Stop after this many bytes of text.</param>
    /// <param name="cancellationToken">Ends the reading.</param>
    /// <exception cref="TextSourceException">A source cannot be read; the message names it and the place.</exception>
    public async Task AddAsync(string label, IEnumerable<string> sources, SourceOptions options, long maxBytes, CancellationToken cancellationToken = default)
    {
        var reader = new PieceReader(options, TextField);
        var parser = new PieceParser(TextField);
        var left = maxBytes;
        foreach (var unit in SourceUnits.Plan(await SourceFiles.FindAsync(sources, options, cancellationToken), UnitBytes))
        {
            await foreach (var piece in reader.ReadAsync(unit, cancellationToken))
            {
                foreach (var document in parser.Parse(piece).Documents)
                {
                    var utf8 = Encoding.UTF8.GetBytes(document.Text);
                    var length = utf8.Length <= left ? utf8.Length : Utf8Text.WholeCharacters(utf8.AsSpan(0, (int)left));
                    Add(label, utf8.AsSpan(0, length));
                    left -= length;
                    if (length < utf8.Length || left == 0)
                    {
                        return;
                    }
                }
            }
        }
    }

    /// <summary>The report of what was added.</summary>
    /// <param name="baseline">The label whose tokens the others are compared with; null compares none.</param>
    /// <exception cref="InvalidDataException">No text has the baseline's label.</exception>
    public TokenizerReport ToReport(string? baseline = null)
    {
        var one = new Sums();
        if (baseline is not null && !_sums.TryGetValue(baseline, out one))
        {
            throw new InvalidDataException($"No text has the label '{baseline}' of the baseline; there are {string.Join(", ", _order)}.");
        }

        var total = _sums.Values.Aggregate(new Sums(), (a, b) => a + b);
        return new TokenizerReport
        {
            Tokenizer = name,
            Kind = tokenizer.Kind,
            VocabularySize = tokenizer.VocabularySize,
            Reference = reference?.Name,
            Baseline = baseline,
            Labels = _order.ConvertAll(label => Measure(label, _sums[label], withRatio: baseline is not null)),
            Total = Measure("all", total, withRatio: false),
        };

        TokenizerMeasure Measure(string label, Sums sums, bool withRatio) => new()
        {
            Label = label,
            Bytes = sums.Bytes,
            Characters = sums.Characters,
            Words = sums.Words,
            Tokens = sums.Tokens,
            UnknownTokens = sums.Unknown,
            ReferenceTokens = reference is null ? null : sums.ReferenceTokens,
            Ratio = withRatio && one.Tokens > 0 ? (double)sums.Tokens / one.Tokens : null,
            ReferenceRatio = withRatio && one.ReferenceTokens > 0 ? (double)sums.ReferenceTokens / one.ReferenceTokens : null,
        };
    }

    private static long CountWords(ReadOnlySpan<byte> utf8)
    {
        long words = 0;
        var inWord = false;
        while (!utf8.IsEmpty)
        {
            Rune.DecodeFromUtf8(utf8, out var rune, out var length);
            var isSpace = Rune.IsWhiteSpace(rune);
            words += !isSpace && !inWord ? 1 : 0;
            inWord = !isSpace;
            utf8 = utf8[length..];
        }

        return words;
    }

    private record struct Sums(long Bytes, long Characters, long Words, long Tokens, long Unknown, long ReferenceTokens)
    {
        public static Sums operator +(Sums a, Sums b) =>
            new(a.Bytes + b.Bytes, a.Characters + b.Characters, a.Words + b.Words, a.Tokens + b.Tokens, a.Unknown + b.Unknown, a.ReferenceTokens + b.ReferenceTokens);
    }
}
