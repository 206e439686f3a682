using System.Text;

namespace LlmPipeline.Text;

/// <summary>Reads <c>tokenizer.json</c> files.</summary>
public static class TokenizerFile
{
    /// <summary>Reads a tokenizer that this project wrote.</summary>
    /// <exception cref="InvalidDataException">The text is not such a file; the message says where.</exception>
    public static ITokenizer Parse(string json) => TokenizerJson.Read(json);
}

/// <summary>Decodes a growing list of ids into whole characters, as a stream of text needs it.</summary>
public sealed class StreamingDecoder(ITokenizer tokenizer)
{
    private readonly Decoder _decoder = Encoding.UTF8.GetDecoder();

    /// <summary>The new whole characters that one more id gives; bytes of an unfinished character wait for the next id.</summary>
    public string Append(int id) => Decode(tokenizer.BytesOf(id), flush: false);

    /// <summary>What is left at the end; an unfinished character becomes U+FFFD.</summary>
    public string Finish() => Decode([], flush: true);

    private string Decode(ReadOnlySpan<byte> bytes, bool flush)
    {
        var characters = new char[_decoder.GetCharCount(bytes, flush)];
        _decoder.GetChars(bytes, characters, flush);
        return new string(characters);
    }
}
