using System.Text;

namespace LlmPipeline.Text;

/// <summary>Decodes a growing list of ids into whole characters, as a stream of text needs it.</summary>
/// <remarks>The pieces, joined, are what <see cref="ITokenizer.Decode"/> gives for all ids at once.</remarks>
/// <param name="tokenizer">The tokenizer.</param>
/// <param name="previous">The id that the text goes on from, for example the last one of a prompt; -1 begins a text.</param>
public sealed class StreamingDecoder(ITokenizer tokenizer, int previous = -1)
{
    private readonly Decoder _decoder = Encoding.UTF8.GetDecoder();
    private int _previous = previous < 0 || tokenizer.BytesOf(previous).IsEmpty ? -1 : previous;

    /// <summary>The new whole characters that one more id gives; bytes of an unfinished character wait for the next id.</summary>
    public string Append(int id)
    {
        var text = Decode(tokenizer.BytesAfter(_previous, id), flush: false);
        _previous = tokenizer.BytesOf(id).IsEmpty ? _previous : id;
        return text;
    }

    /// <summary>What is left at the end; an unfinished character becomes U+FFFD.</summary>
    public string Finish() => Decode([], flush: true);

    private string Decode(ReadOnlySpan<byte> bytes, bool flush)
    {
        var chars = new char[Encoding.UTF8.GetMaxCharCount(bytes.Length)];
        return new string(chars, 0, _decoder.GetChars(bytes, chars, flush));
    }
}
