namespace LlmPipeline.Text;

/// <summary>Reads <c>tokenizer.json</c> files.</summary>
public static class TokenizerFile
{
    /// <summary>Reads a tokenizer that this project wrote.</summary>
    /// <exception cref="InvalidDataException">The text is not such a file; the message says where.</exception>
    public static ITokenizer Parse(string json) => throw new NotImplementedException();
}

/// <summary>Decodes a growing list of ids into whole characters, as a stream of text needs it.</summary>
public sealed class StreamingDecoder(ITokenizer tokenizer)
{
    /// <summary>The new whole characters that one more id gives; bytes of an unfinished character wait for the next id.</summary>
    public string Append(int id) => throw new NotImplementedException(tokenizer.Kind + id);

    /// <summary>What is left at the end; an unfinished character becomes U+FFFD.</summary>
    public string Finish() => throw new NotImplementedException();
}
