using System.Collections.Concurrent;
using System.Text;
using System.Text.Unicode;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Text;

/// <summary>Byte-level byte-pair encoding, as GPT-2's: every text has ids, and every text comes back exactly.</summary>
public sealed class BpeTokenizer : ITokenizer
{
    private readonly TokenTable _table;
    private readonly BpeMerges _merges;
    private readonly IWordSplitter _splitter;
    private readonly int[] _idOfByte;
    private readonly string _json;

    // As many as there are threads that encode at the same time.
    private readonly ConcurrentBag<BpeEncoder> _idle = [];

    /// <param name="vocabulary">Checked before.</param>
    /// <param name="json">The file that it was read from; null to write one.</param>
    internal BpeTokenizer(BpeVocabulary vocabulary, string? json = null)
    {
        _table = new TokenTable(vocabulary.Tokens);
        _merges = new BpeMerges(vocabulary.Merges);
        _splitter = vocabulary.Splitter;
        _idOfByte = new int[256];
        for (var id = 0; id < vocabulary.Tokens.Length; id++)
        {
            if (vocabulary.Tokens[id] is [var value])
            {
                _idOfByte[value] = id;
            }
        }

        SpecialIds = vocabulary.SpecialTokens;
        _json = json ?? BpeFile.Write(vocabulary);
        Hash = TokenTable.HashOf(_json);
    }

    /// <inheritdoc/>
    public string Kind => "bpe";

    /// <summary>How it cuts text into words: "default", "gpt2", "gpt4", or a regular expression.</summary>
    public string Pattern => _splitter.Name;

    /// <inheritdoc/>
    public int VocabularySize => _table.Count;

    /// <inheritdoc/>
    public int EndOfTextId => SpecialIds[SpecialTokens.EndOfText];

    /// <inheritdoc/>
    public IReadOnlyDictionary<string, int> SpecialIds { get; }

    /// <inheritdoc/>
    public string Hash { get; }

    /// <summary>Makes a tokenizer from a vocabulary and merges in GPT-2's byte alphabet, as its <c>encoder.json</c> and <c>vocab.bpe</c> have them.</summary>
    /// <param name="vocabulary">Token to id; holds <c>&lt;|endoftext|&gt;</c>.</param>
    /// <param name="merges">In order of rank.</param>
    /// <exception cref="InvalidDataException">They do not fit together; the message says where.</exception>
    public static BpeTokenizer Create(IReadOnlyDictionary<string, int> vocabulary, IEnumerable<(string Left, string Right)> merges) =>
        new(BpeVocabulary.Create(vocabulary, merges, new HashSet<string> { SpecialTokens.EndOfText }, WordSplitter.Gpt2));

    /// <inheritdoc/>
    public void Encode(ReadOnlySpan<byte> utf8, List<int> ids)
    {
        utf8 = Utf8.IsValid(utf8) ? utf8 : Encoding.UTF8.GetBytes(Encoding.UTF8.GetString(utf8));
        var encoder = Rent();
        var sink = new BpeIdSink(encoder, ids, utf8.Length);
        try
        {
            _splitter.Split(utf8, ref sink);
        }
        finally
        {
            sink.End();
            _idle.Add(encoder);
        }
    }

    /// <inheritdoc/>
    public void EncodeWithOffsets(ReadOnlySpan<byte> utf8, List<TokenSpan> tokens)
    {
        Utf8Text.RequireValid(utf8, nameof(utf8));
        var encoder = Rent();
        var sink = new BpeSpanSink(encoder, _table, tokens);
        try
        {
            _splitter.Split(utf8, ref sink);
        }
        finally
        {
            _idle.Add(encoder);
        }
    }

    /// <inheritdoc/>
    public int LastSafeCut(ReadOnlySpan<byte> utf8) => _splitter.LastSafeCut(utf8);

    /// <inheritdoc/>
    public ReadOnlySpan<byte> BytesOf(int id) => _table.BytesOf(id);

    /// <inheritdoc/>
    public string Decode(ReadOnlySpan<int> ids) => _table.Decode(ids);

    /// <inheritdoc/>
    public string ToJson() => _json;

    private BpeEncoder Rent() => _idle.TryTake(out var encoder) ? encoder : new BpeEncoder(_merges, _idOfByte);
}
