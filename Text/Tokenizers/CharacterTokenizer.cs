using System.Text;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Text;

/// <summary>One id a Unicode code point. Characters outside the vocabulary become <see cref="SpecialTokens.Unknown"/>, which decodes to nothing.</summary>
public sealed class CharacterTokenizer : ITokenizer
{
    internal const int FirstCharacter = 2;

    private readonly TokenTable _table;
    private readonly int[] _idOfChar = new int[char.MaxValue + 1];
    private readonly Dictionary<int, int> _idOfSupplementary = [];
    private readonly string _json;

    /// <param name="characters">Ascending; their ids follow those of the special tokens.</param>
    /// <param name="json">The file that it was read from; null to write one.</param>
    internal CharacterTokenizer(IReadOnlyList<Rune> characters, string? json = null)
    {
        Array.Fill(_idOfChar, UnknownId);
        var tokens = new byte[FirstCharacter + characters.Count][];
        (tokens[UnknownId], tokens[EndOfTextId]) = ([], []);
        for (var i = 0; i < characters.Count; i++)
        {
            var (id, character) = (FirstCharacter + i, characters[i]);
            tokens[id] = Encoding.UTF8.GetBytes(character.ToString());
            if (character.IsBmp)
            {
                _idOfChar[character.Value] = id;
            }
            else
            {
                _idOfSupplementary.Add(character.Value, id);
            }
        }

        _table = new TokenTable(tokens);
        _json = json ?? CharacterFile.Write(characters);
        Hash = TokenTable.HashOf(_json);
    }

    /// <inheritdoc/>
    public string Kind => "character";

    /// <inheritdoc/>
    public int VocabularySize => _table.Count;

    /// <inheritdoc/>
    public int EndOfTextId => 0;

    /// <summary>Id of every character outside the vocabulary.</summary>
    public static int UnknownId => 1;

    int? ITokenizer.UnknownId => UnknownId;

    /// <inheritdoc/>
    public IReadOnlyDictionary<string, int> SpecialIds => CharacterFile.Special;

    /// <inheritdoc/>
    public string Hash { get; }

    /// <summary>Makes a tokenizer of the given characters, in any order; repeated ones count once.</summary>
    public static CharacterTokenizer Create(IEnumerable<Rune> characters) => new([.. characters.Distinct().Order()]);

    /// <summary>Makes a tokenizer of all characters of the given texts.</summary>
    public static CharacterTokenizer Create(IEnumerable<string> texts) => Create(texts.SelectMany(t => t.EnumerateRunes()));

    /// <inheritdoc/>
    public void Encode(ReadOnlySpan<byte> utf8, List<int> ids)
    {
        ids.EnsureCapacity(ids.Count + utf8.Length);
        while (!utf8.IsEmpty)
        {
            Rune.DecodeFromUtf8(utf8, out var rune, out var length);
            ids.Add(IdOf(rune));
            utf8 = utf8[length..];
        }
    }

    /// <inheritdoc/>
    public void EncodeWithOffsets(ReadOnlySpan<byte> utf8, List<TokenSpan> tokens)
    {
        Utf8Text.RequireValid(utf8, nameof(utf8));
        for (var i = 0; i < utf8.Length;)
        {
            Rune.DecodeFromUtf8(utf8[i..], out var rune, out var length);
            tokens.Add(new TokenSpan(IdOf(rune), i, i += length));
        }
    }

    /// <inheritdoc/>
    public int LastSafeCut(ReadOnlySpan<byte> utf8) => Utf8Text.WholeCharacters(utf8);

    /// <inheritdoc/>
    public ReadOnlySpan<byte> BytesOf(int id) => _table.BytesOf(id);

    /// <inheritdoc/>
    public string Decode(ReadOnlySpan<int> ids) => _table.Decode(ids);

    /// <inheritdoc/>
    public string ToJson() => _json;

    private int IdOf(Rune rune) => rune.IsBmp ? _idOfChar[rune.Value] : _idOfSupplementary.GetValueOrDefault(rune.Value, UnknownId);
}
