using System.Text;

namespace LlmPipeline.Text;

/// <summary>Decodes a growing list of ids into whole characters, as a stream of text needs it.</summary>
/// <remarks>The pieces, joined, are what <see cref="ITokenizer.Decode"/> gives for all ids at once.</remarks>
public sealed class StreamingDecoder(ITokenizer tokenizer)
{
    private readonly Decoder _decoder = Encoding.UTF8.GetDecoder();

    /// <summary>The new whole characters that one more id gives; bytes of an unfinished character wait for the next id.</summary>
    public string Append(int id) => Decode(tokenizer.BytesOf(id), flush: false);

    /// <summary>What is left at the end; an unfinished character becomes U+FFFD.</summary>
    public string Finish() => Decode([], flush: true);

    private string Decode(ReadOnlySpan<byte> bytes, bool flush)
    {
        var chars = new char[Encoding.UTF8.GetMaxCharCount(bytes.Length)];
        return new string(chars, 0, _decoder.GetChars(bytes, chars, flush));
    }
}
