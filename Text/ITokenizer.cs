namespace LlmPipeline.Text;

/// <summary>Turns text into token ids and back. Immutable and safe for use from many threads.</summary>
public interface ITokenizer
{
    /// <summary>"bpe", "character", ...: the values of <c>tokenizer.kind</c> in a dataset's spec.</summary>
    string Kind { get; }

    /// <summary>Number of ids, special tokens included: ids are 0 to this, exclusive.</summary>
    int VocabularySize { get; }

    /// <summary>Id of <c>&lt;|endoftext|&gt;</c>, which follows every document and begins an empty prompt.</summary>
    int EndOfTextId { get; }

    /// <summary>Special tokens and their ids. They stand for no text, and encoding never makes them from text.</summary>
    IReadOnlyDictionary<string, int> SpecialIds { get; }

    /// <summary>SHA-256 of the tokenizer file, lower-case hexadecimal: tells whether a dataset and a model belong together.</summary>
    string Hash { get; }

    /// <summary>
    /// Appends the ids of a UTF-8 text; invalid UTF-8 counts as U+FFFD. Special tokens written in the text are text: they cannot be
    /// injected (<see cref="TokenizerExtensions.EncodeWithSpecialTokens"/> lets a caller allow them).
    /// </summary>
    void Encode(ReadOnlySpan<byte> utf8, List<int> ids);

    /// <summary>
    /// Appends the tokens of a UTF-8 text with the places they come from: the ids are those of
    /// <see cref="Encode(ReadOnlySpan{byte}, List{int})"/>, the places ascend and do not overlap. A kind that drops or rewrites text says
    /// which bytes a token came from; byte-level tokens may begin and end within a character.
    /// </summary>
    /// <exception cref="ArgumentException">The text is not UTF-8; the message names the offset.</exception>
    void EncodeWithOffsets(ReadOnlySpan<byte> utf8, List<TokenSpan> tokens);

    /// <summary>
    /// Where a text that is too long for memory can be cut: the largest length at which encoding both parts one after another gives the
    /// ids of the whole, whatever follows. 0 where there is no such place.
    /// </summary>
    int LastSafeCut(ReadOnlySpan<byte> utf8);

    /// <summary>The UTF-8 bytes that an id stands for; empty for special tokens.</summary>
    ReadOnlySpan<byte> BytesOf(int id);

    /// <summary>
    /// The bytes that an id adds to a text behind another id. They are those of <see cref="BytesOf"/>, but for kinds that leave spaces out and
    /// put them back between words. <see cref="Decode"/> is these, joined, special tokens aside.
    /// </summary>
    /// <param name="previous">The id before it that is not special; -1 at the begin of a text.</param>
    /// <param name="id">The id.</param>
    ReadOnlySpan<byte> BytesAfter(int previous, int id) => BytesOf(id);

    /// <summary>Id of what the vocabulary has no token for; null where that cannot happen.</summary>
    int? UnknownId => null;

    /// <summary>Decodes ids; invalid UTF-8 is replaced by U+FFFD, special tokens are left out.</summary>
    string Decode(ReadOnlySpan<int> ids);

    /// <summary>The file: Hugging Face <c>tokenizer.json</c>.</summary>
    string ToJson();
}

/// <summary>A token and the bytes of the UTF-8 text that it came from.</summary>
/// <param name="Id">Token id.</param>
/// <param name="Start">First byte.</param>
/// <param name="End">Byte after the last one.</param>
public readonly record struct TokenSpan(int Id, int Start, int End);
