using System.Buffers;
using System.Text;

namespace LlmPipeline.Text;

/// <summary>One id a Unicode code point, in order of code points, after the end-of-text and the unknown id.</summary>
public sealed class CharacterTokenizer : ITokenizer
{
    private const int FirstCharacter = 2;
    private readonly Rune[] _characters;
    private readonly byte[][] _bytes;
    private readonly int[] _idOfLatin = new int[256];
    private readonly Dictionary<Rune, int> _ids;
    private readonly Lazy<(string Json, string Hash)> _file;

    private CharacterTokenizer(Rune[] characters)
    {
        _characters = characters;
        _bytes = [[], [], .. characters.Select(c => Encoding.UTF8.GetBytes(c.ToString()))];
        _ids = characters.Select((c, i) => (c, i)).ToDictionary(p => p.c, p => p.i + FirstCharacter);
        for (var c = 0; c < _idOfLatin.Length; c++)
        {
            _idOfLatin[c] = _ids.GetValueOrDefault(new Rune(c), UnknownId);
        }

        _file = new(() => TokenizerJson.Write(this));
    }

    /// <summary>A tokenizer for these characters.</summary>
    /// <exception cref="ArgumentException">There is none.</exception>
    public static CharacterTokenizer Create(IEnumerable<Rune> characters)
    {
        Rune[] sorted = [.. characters.Distinct().Order()];
        return sorted.Length > 0 ? new CharacterTokenizer(sorted) : throw new ArgumentException("A character tokenizer needs at least one character.", nameof(characters));
    }

    /// <summary>Id of every character that the vocabulary lacks.</summary>
    public static int UnknownId => 1;

    /// <inheritdoc/>
    public string Kind => "character";

    /// <inheritdoc/>
    public int VocabularySize => _bytes.Length;

    /// <inheritdoc/>
    public int EndOfTextId => 0;

    /// <inheritdoc/>
    public string Hash => _file.Value.Hash;

    /// <summary>The characters, in order of ids from 2 on.</summary>
    public IReadOnlyList<Rune> Characters => _characters;

    /// <inheritdoc/>
    public ReadOnlySpan<byte> BytesOf(int id) => _bytes[id];

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
            if (text[0] < _idOfLatin.Length)
            {
                ids.Add(_idOfLatin[text[0]]);
                text = text[1..];
                continue;
            }

            var whole = Rune.DecodeFromUtf16(text, out var rune, out var width) == OperationStatus.Done;
            ids.Add(whole ? _ids.GetValueOrDefault(rune, UnknownId) : UnknownId);
            text = text[width..];
        }
    }
}
