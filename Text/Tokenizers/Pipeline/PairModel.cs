using System.Collections.Concurrent;
using System.Text;

namespace LlmPipeline.Text;

/// <summary>What a byte-pair encoding over characters is made of.</summary>
internal sealed record PairModelOptions
{
    /// <summary>Token to id.</summary>
    public required Dictionary<string, int> Vocabulary { get; init; }

    /// <summary>In order of rank.</summary>
    public required IReadOnlyList<BpeMerge> Merges { get; init; }

    /// <summary>Id of characters without a token; null drops them.</summary>
    public int? Unknown { get; init; }

    /// <summary>Whether neighbouring unknown characters are one.</summary>
    public bool FuseUnknown { get; init; }

    /// <summary>Ids of the 256 bytes, which stand for characters without a token; null when there are none.</summary>
    public int[]? ByteIds { get; init; }

    /// <summary>Begins every symbol of a word but the first.</summary>
    public string ContinuationPrefix { get; init; } = "";

    /// <summary>Ends the last symbol of a word.</summary>
    public string EndOfWordSuffix { get; init; } = "";

    /// <summary>Whether a word that is a token is not merged.</summary>
    public bool WholeWordsFirst { get; init; }
}

/// <summary>Byte-pair encoding over characters (Sennrich et al. 2016), with what files of other implementations ask for.</summary>
internal sealed class PairModel : TokenModel
{
    private const int MaxRememberedWords = 1 << 15;
    private const int MaxRememberedLength = 48;

    private readonly PairModelOptions _options;
    private readonly SymbolMerger _merger;
    private readonly Dictionary<string, int>.AlternateLookup<ReadOnlySpan<char>> _ids;
    private readonly ConcurrentDictionary<string, int[]> _words = new(StringComparer.Ordinal);
    private readonly ConcurrentDictionary<string, int[]>.AlternateLookup<ReadOnlySpan<char>> _known;
    private int _remembered;

    public PairModel(PairModelOptions options)
    {
        _options = options;
        _merger = new SymbolMerger(options.Merges);
        _ids = options.Vocabulary.GetAlternateLookup<ReadOnlySpan<char>>();
        _known = _words.GetAlternateLookup<ReadOnlySpan<char>>();
    }

    public override void Encode(ReadOnlySpan<char> piece, List<int> ids, List<(int Start, int Length)>? ranges)
    {
        var remembers = ranges is null && piece.Length <= MaxRememberedLength;
        if (remembers && _known.TryGetValue(piece, out var known))
        {
            ids.AddRange(known.AsSpan());
            return;
        }

        var symbols = new List<Symbol>(piece.Length);
        if (_options.WholeWordsFirst && _ids.TryGetValue(piece, out var whole))
        {
            symbols.Add(new Symbol(whole, 0, piece.Length));
        }
        else
        {
            AddSymbols(piece, symbols);
            _merger.Merge(symbols);
        }

        foreach (var symbol in symbols)
        {
            ids.Add(symbol.Id);
            ranges?.Add((symbol.Start, symbol.Length));
        }

        if (remembers && Volatile.Read(ref _remembered) < MaxRememberedWords && _known.TryAdd(piece, [.. symbols.Select(s => s.Id)]))
        {
            Interlocked.Increment(ref _remembered);
        }
    }

    private void AddSymbols(ReadOnlySpan<char> piece, List<Symbol> symbols)
    {
        var affixed = _options.ContinuationPrefix.Length + _options.EndOfWordSuffix.Length > 0;
        for (var i = 0; i < piece.Length;)
        {
            var ok = Rune.DecodeFromUtf16(piece[i..], out var rune, out var length) == System.Buffers.OperationStatus.Done;
            var symbol = piece.Slice(i, length);
            if (affixed)
            {
                symbol = $"{(i > 0 ? _options.ContinuationPrefix : "")}{symbol}{(i + length == piece.Length ? _options.EndOfWordSuffix : "")}";
            }

            if (ok && _ids.TryGetValue(symbol, out var id))
            {
                symbols.Add(new Symbol(id, i, length));
            }
            else
            {
                AddUnknown(rune, i, length, symbols);
            }

            i += length;
        }
    }

    private void AddUnknown(Rune rune, int start, int length, List<Symbol> symbols)
    {
        if (_options.ByteIds is { } byteIds)
        {
            Span<byte> utf8 = stackalloc byte[4];
            foreach (var b in utf8[..rune.EncodeToUtf8(utf8)])
            {
                symbols.Add(new Symbol(byteIds[b], start, length));
            }
        }
        else if (_options.Unknown is { } unknown)
        {
            if (_options.FuseUnknown && symbols is [.., var last] && last.Id == unknown)
            {
                symbols[^1] = last with { Length = start + length - last.Start };
            }
            else
            {
                symbols.Add(new Symbol(unknown, start, length));
            }
        }
    }
}

/// <summary>A token in the making.</summary>
/// <param name="Id">Its id.</param>
/// <param name="Start">First char that it covers.</param>
/// <param name="Length">Chars that it covers.</param>
internal readonly record struct Symbol(int Id, int Start, int Length);

/// <summary>Merges neighbouring symbols, the lowest rank first and from left to right.</summary>
internal sealed class SymbolMerger
{
    private readonly Dictionary<(int Left, int Right), (int Rank, int Result)> _merges;

    /// <param name="merges">In order of rank. A pair that comes twice keeps its first rank.</param>
    /// <param name="ranks">Rank of each merge; null for its index.</param>
    public SymbolMerger(IReadOnlyList<BpeMerge> merges, int[]? ranks = null)
    {
        _merges = new(merges.Count);
        for (var i = 0; i < merges.Count; i++)
        {
            _merges.TryAdd((merges[i].Left, merges[i].Right), (ranks?[i] ?? i, merges[i].Result));
        }
    }

    /// <summary>Merges in place. O(n log n): a text without blanks may be one word.</summary>
    public void Merge(List<Symbol> symbols)
    {
        var count = symbols.Count;
        if (count < 2)
        {
            return;
        }

        var next = new int[count];
        var previous = new int[count];
        var heap = new PriorityQueue<int, (int Rank, int Position)>(count);
        for (var i = 0; i < count; i++)
        {
            (previous[i], next[i]) = (i - 1, i + 1);
            Push(i);
        }

        while (heap.TryDequeue(out var i, out var entry))
        {
            // A removed position points to itself; an entry whose pair has changed since is void.
            if (next[i] == i || next[i] >= count || !_merges.TryGetValue((symbols[i].Id, symbols[next[i]].Id), out var merge) || merge.Rank != entry.Rank)
            {
                continue;
            }

            var removed = next[i];
            var (left, right) = (symbols[i], symbols[removed]);
            symbols[i] = new Symbol(merge.Result, left.Start, right.Start + right.Length - left.Start);
            (next[i], next[removed]) = (next[removed], removed);
            if (next[i] < count)
            {
                previous[next[i]] = i;
                Push(i);
            }

            if (previous[i] >= 0)
            {
                Push(previous[i]);
            }
        }

        var written = 0;
        for (var i = 0; i < count; i = next[i])
        {
            symbols[written++] = symbols[i];
        }

        symbols.RemoveRange(written, count - written);

        void Push(int i)
        {
            if (next[i] < count && _merges.TryGetValue((symbols[i].Id, symbols[next[i]].Id), out var merge))
            {
                heap.Enqueue(i, (merge.Rank, i));
            }
        }
    }
}
