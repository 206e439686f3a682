using System.Collections.Concurrent;
using System.Text;

namespace LlmPipeline.Text;

/// <summary>
/// Byte-level byte-pair encoding (Sennrich et al. 2016, Radford et al. 2019): text is cut into pieces, a piece's UTF-8 bytes are
/// joined by merges, the earliest learnt first. Every text has an encoding, and decoding gives it back.
/// </summary>
public sealed class BpeTokenizer : ITokenizer
{
    private const int MaxCachedPieceLength = 32;
    private const int MaxCachedPieces = 1 << 17;

    private readonly byte[][] _tokens;
    private readonly int[] _idOfByte = new int[256];
    private readonly Dictionary<long, int> _rankOfPair;
    private readonly int[] _idOfRank;
    private readonly ConcurrentDictionary<string, int[]> _cache = new(StringComparer.Ordinal);
    private readonly ConcurrentDictionary<string, int[]>.AlternateLookup<ReadOnlySpan<char>> _cacheBySpan;
    private readonly (int Left, int Right)[] _merges;
    private readonly string _endOfText;
    private readonly Lazy<(string Json, string Hash)> _file;
    private int _cached;

    /// <summary>A tokenizer from its parts.</summary>
    /// <param name="tokens">Bytes of each id; empty for the end-of-text id.</param>
    /// <param name="merges">Pairs of ids, the earliest learnt first; the joined bytes must be a token.</param>
    /// <param name="endOfTextId">The id that follows every document.</param>
    /// <param name="endOfText">Its name in the file.</param>
    /// <exception cref="InvalidDataException">A byte has no token, or a merge makes none.</exception>
    public BpeTokenizer(IReadOnlyList<byte[]> tokens, IReadOnlyList<(int Left, int Right)> merges, int endOfTextId, string endOfText = SpecialTokens.EndOfText)
    {
        _tokens = [.. tokens];
        _merges = [.. merges];
        _endOfText = endOfText;
        EndOfTextId = endOfTextId;
        _cacheBySpan = _cache.GetAlternateLookup<ReadOnlySpan<char>>();
        var idOfBytes = new Dictionary<string, int>(_tokens.Length, StringComparer.Ordinal);
        for (var id = 0; id < _tokens.Length; id++)
        {
            if (id != endOfTextId && !idOfBytes.TryAdd(Convert.ToHexString(_tokens[id]), id))
            {
                throw new InvalidDataException($"Tokens {idOfBytes[Convert.ToHexString(_tokens[id])]} and {id} are the same bytes.");
            }
        }

        for (var b = 0; b < 256; b++)
        {
            _idOfByte[b] = idOfBytes.TryGetValue(b.ToString("X2", System.Globalization.CultureInfo.InvariantCulture), out var id)
                ? id
                : throw new InvalidDataException($"The vocabulary has no token for byte 0x{b:X2}.");
        }

        _rankOfPair = new Dictionary<long, int>(_merges.Length);
        _idOfRank = new int[_merges.Length];
        for (var rank = 0; rank < _merges.Length; rank++)
        {
            var (left, right) = _merges[rank];
            _idOfRank[rank] = idOfBytes.TryGetValue(Convert.ToHexString(_tokens[left]) + Convert.ToHexString(_tokens[right]), out var id)
                ? id
                : throw new InvalidDataException($"Merge {rank} makes '{ByteAlphabet.ToText([.. _tokens[left], .. _tokens[right]])}', which is not in the vocabulary.");
            _rankOfPair.TryAdd(Pair(left, right), rank);
        }

        _file = new(() => TokenizerJson.Write(this));
    }

    /// <inheritdoc/>
    public string Kind => "bpe";

    /// <inheritdoc/>
    public int VocabularySize => _tokens.Length;

    /// <inheritdoc/>
    public int EndOfTextId { get; }

    /// <inheritdoc/>
    public string Hash => _file.Value.Hash;

    /// <summary>Pairs of ids that are joined, the earliest learnt first.</summary>
    public IReadOnlyList<(int Left, int Right)> Merges => _merges;

    /// <summary>A token as it is written in files.</summary>
    public string TextOf(int id) => id == EndOfTextId ? _endOfText : ByteAlphabet.ToText(_tokens[id]);

    /// <inheritdoc/>
    public ReadOnlySpan<byte> BytesOf(int id) => _tokens[id];

    /// <inheritdoc/>
    public string Decode(ReadOnlySpan<int> ids) => TokenBytes.Decode(this, ids);

    /// <inheritdoc/>
    public string ToJson() => _file.Value.Json;

    /// <inheritdoc/>
    public void Encode(ReadOnlySpan<char> text, List<int> ids)
    {
        ArgumentNullException.ThrowIfNull(ids);
        while (!text.IsEmpty)
        {
            var length = Gpt2Splitter.FirstPiece(text);
            EncodePiece(text[..length], ids);
            text = text[length..];
        }
    }

    private void EncodePiece(ReadOnlySpan<char> piece, List<int> ids)
    {
        if (_cacheBySpan.TryGetValue(piece, out var cached))
        {
            ids.AddRange(cached);
            return;
        }

        var bytes = new byte[Encoding.UTF8.GetMaxByteCount(piece.Length)];
        var count = Encoding.UTF8.GetBytes(piece, bytes);
        var symbols = new int[count];
        for (var i = 0; i < count; i++)
        {
            symbols[i] = _idOfByte[bytes[i]];
        }

        var merged = symbols.AsSpan(0, count <= 64 ? MergeShort(symbols) : MergeLong(symbols));
        ids.AddRange(merged);
        if (piece.Length <= MaxCachedPieceLength && _cached < MaxCachedPieces && _cache.TryAdd(piece.ToString(), merged.ToArray()))
        {
            Interlocked.Increment(ref _cached);
        }
    }

    /// <summary>Joins the leftmost pair of lowest rank until there is none; returns the number of symbols left.</summary>
    private int MergeShort(Span<int> symbols)
    {
        var count = symbols.Length;
        Span<int> ranks = stackalloc int[Math.Max(0, count - 1)];
        for (var i = 0; i + 1 < count; i++)
        {
            ranks[i] = RankOf(symbols[i], symbols[i + 1]);
        }

        while (count > 1)
        {
            var best = 0;
            for (var i = 1; i + 1 < count; i++)
            {
                best = ranks[i] < ranks[best] ? i : best;
            }

            if (ranks[best] == int.MaxValue)
            {
                break;
            }

            symbols[best] = _idOfRank[ranks[best]];
            symbols[(best + 2)..count].CopyTo(symbols[(best + 1)..]);
            if (best + 2 < count)
            {
                ranks[(best + 1)..(count - 1)].CopyTo(ranks[best..]);
            }

            count--;
            if (best + 1 < count)
            {
                ranks[best] = RankOf(symbols[best], symbols[best + 1]);
            }

            if (best > 0)
            {
                ranks[best - 1] = RankOf(symbols[best - 1], symbols[best]);
            }
        }

        return count;
    }

    /// <summary>The same in O(n log n), for pieces like a line of ten thousand dashes.</summary>
    private int MergeLong(Span<int> symbols)
    {
        var count = symbols.Length;
        var next = new int[count];
        var previous = new int[count];
        var queue = new PriorityQueue<(int Left, int Right, int LeftId, int RightId), (int Rank, int Position)>();
        for (var i = 0; i < count; i++)
        {
            (next[i], previous[i]) = (i + 1 < count ? i + 1 : -1, i - 1);
        }

        for (var i = 0; i + 1 < count; i++)
        {
            Push(symbols, i, i + 1);
        }

        while (queue.TryDequeue(out var pair, out var priority))
        {
            if (symbols[pair.Left] != pair.LeftId || next[pair.Left] != pair.Right || symbols[pair.Right] != pair.RightId)
            {
                continue;
            }

            symbols[pair.Left] = _idOfRank[priority.Rank];
            symbols[pair.Right] = -1;
            var after = next[pair.Left] = next[pair.Right];
            if (after >= 0)
            {
                previous[after] = pair.Left;
                Push(symbols, pair.Left, after);
            }

            if (previous[pair.Left] >= 0)
            {
                Push(symbols, previous[pair.Left], pair.Left);
            }
        }

        var kept = 0;
        foreach (var symbol in symbols)
        {
            if (symbol >= 0)
            {
                symbols[kept++] = symbol;
            }
        }

        return kept;

        void Push(Span<int> all, int left, int right)
        {
            if (RankOf(all[left], all[right]) is < int.MaxValue and var rank)
            {
                queue.Enqueue((left, right, all[left], all[right]), (rank, left));
            }
        }
    }

    private int RankOf(int left, int right) => _rankOfPair.TryGetValue(Pair(left, right), out var rank) ? rank : int.MaxValue;

    private static long Pair(int left, int right) => ((long)left << 32) | (uint)right;
}
