namespace LlmPipeline.Text;

/// <summary>Turns text into token ids and back. Immutable and safe for use from many threads.</summary>
public interface ITokenizer
{
    /// <summary>"bpe" or "character".</summary>
    string Kind { get; }

    /// <summary>Number of ids, special tokens included: ids are 0 to this, exclusive.</summary>
    int VocabularySize { get; }

    /// <summary>Id of <c>&lt;|endoftext|&gt;</c>, which follows every document and begins an empty prompt.</summary>
    int EndOfTextId { get; }

    /// <summary>SHA-256 of the tokenizer file, lower-case hexadecimal: tells whether a dataset and a model belong together.</summary>
    string Hash { get; }

    /// <summary>Appends the ids of a text. Special tokens written in the text are text: they cannot be injected.</summary>
    void Encode(ReadOnlySpan<char> text, List<int> ids);

    /// <summary>The UTF-8 bytes that an id stands for; empty for special tokens.</summary>
    ReadOnlySpan<byte> BytesOf(int id);

    /// <summary>Decodes ids; invalid UTF-8 is replaced by U+FFFD, special tokens are left out.</summary>
    string Decode(ReadOnlySpan<int> ids);

    /// <summary>The file: Hugging Face <c>tokenizer.json</c>.</summary>
    string ToJson();
}

/// <summary>Short forms.</summary>
public static class TokenizerExtensions
{
    /// <summary>The ids of a text.</summary>
    public static int[] Encode(this ITokenizer tokenizer, string text)
    {
        var ids = new List<int>(text.Length / 2);
        tokenizer.Encode(text, ids);
        return [.. ids];
    }
}
