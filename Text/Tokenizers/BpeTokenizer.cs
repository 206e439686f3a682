using System.Buffers;
using System.Collections.Concurrent;
using System.Text;

namespace LlmPipeline.Text;

/// <summary>Byte-level byte-pair encoding, as GPT-2's: every text has ids, and every text comes back exactly.</summary>
public sealed class BpeTokenizer : ITokenizer
{
    // Words of text repeat: remembered ones need no merging. Long ones hardly repeat.
    private const int MaxRememberedWords = 1 << 16;
    private const int MaxRememberedLength = 48;

    private readonly TokenTable _table;
    private readonly BpeMerges _merges;
    private readonly int[] _idOfByte;
    private readonly ConcurrentDictionary<string, int[]> _words = new(StringComparer.Ordinal);
    private readonly ConcurrentDictionary<string, int[]>.AlternateLookup<ReadOnlySpan<char>> _lookup;
    private readonly string _json;
    private int _remembered;

    /// <param name="vocabulary">Checked before.</param>
    /// <param name="json">The file that it was read from; null to write one.</param>
    internal BpeTokenizer(BpeVocabulary vocabulary, string? json = null)
    {
        _table = new TokenTable(vocabulary.Tokens);
        _merges = new BpeMerges(vocabulary.Merges);
        _idOfByte = new int[256];
        for (var id = 0; id < vocabulary.Tokens.Length; id++)
        {
            if (vocabulary.Tokens[id] is [var value])
            {
                _idOfByte[value] = id;
            }
        }

        _lookup = _words.GetAlternateLookup<ReadOnlySpan<char>>();
        EndOfTextId = vocabulary.EndOfTextId;
        _json = json ?? BpeFile.Write(vocabulary);
        Hash = TokenTable.HashOf(_json);
    }

    /// <inheritdoc/>
    public string Kind => "bpe";

    /// <inheritdoc/>
    public int VocabularySize => _table.Count;

    /// <inheritdoc/>
    public int EndOfTextId { get; }

    /// <inheritdoc/>
    public string Hash { get; }

    /// <summary>Makes a tokenizer from a vocabulary and merges in GPT-2's byte alphabet, as its <c>encoder.json</c> and <c>vocab.bpe</c> have them.</summary>
    /// <param name="vocabulary">Token to id; holds <c>&lt;|endoftext|&gt;</c>.</param>
    /// <param name="merges">In order of rank.</param>
    /// <exception cref="InvalidDataException">They do not fit together; the message says where.</exception>
    public static BpeTokenizer Create(IReadOnlyDictionary<string, int> vocabulary, IEnumerable<(string Left, string Right)> merges) =>
        new(BpeVocabulary.Create(vocabulary, merges, new HashSet<string> { SpecialTokens.EndOfText }));

    /// <inheritdoc/>
    public void Encode(ReadOnlySpan<char> text, List<int> ids)
    {
        while (!text.IsEmpty)
        {
            var length = Gpt2Splitter.FirstWordLength(text);
            EncodeWord(text[..length], ids);
            text = text[length..];
        }
    }

    /// <inheritdoc/>
    public ReadOnlySpan<byte> BytesOf(int id) => _table.BytesOf(id);

    /// <inheritdoc/>
    public string Decode(ReadOnlySpan<int> ids) => _table.Decode(ids);

    /// <inheritdoc/>
    public string ToJson() => _json;

    private void EncodeWord(ReadOnlySpan<char> word, List<int> ids)
    {
        if (word.Length > MaxRememberedLength)
        {
            MergeLongWord(word, ids);
            return;
        }

        if (_lookup.TryGetValue(word, out var known))
        {
            ids.AddRange(known.AsSpan());
            return;
        }

        Span<byte> utf8 = stackalloc byte[3 * MaxRememberedLength];
        Span<int> merged = stackalloc int[3 * MaxRememberedLength];
        merged = merged[..Merge(utf8[..Encoding.UTF8.GetBytes(word, utf8)], merged)];
        ids.AddRange(merged);
        if (Volatile.Read(ref _remembered) < MaxRememberedWords && _lookup.TryAdd(word, merged.ToArray()))
        {
            Interlocked.Increment(ref _remembered);
        }
    }

    private void MergeLongWord(ReadOnlySpan<char> word, List<int> ids)
    {
        var utf8 = ArrayPool<byte>.Shared.Rent(Encoding.UTF8.GetMaxByteCount(word.Length));
        var length = Encoding.UTF8.GetBytes(word, utf8);
        var merged = ArrayPool<int>.Shared.Rent(length);
        ids.AddRange(merged.AsSpan(0, Merge(utf8.AsSpan(0, length), merged)));
        ArrayPool<int>.Shared.Return(merged);
        ArrayPool<byte>.Shared.Return(utf8);
    }

    private int Merge(ReadOnlySpan<byte> utf8, Span<int> ids)
    {
        for (var i = 0; i < utf8.Length; i++)
        {
            ids[i] = _idOfByte[utf8[i]];
        }

        return _merges.Apply(ids[..utf8.Length]);
    }
}
