namespace LlmPipeline.Text;

/// <summary>Cuts text into the words that byte pairs are merged within. Immutable and safe for use from many threads.</summary>
public interface IWordSplitter
{
    /// <summary>"default", "gpt2", "gpt4", or the regular expression: what <see cref="WordSplitter.Create"/> makes it from again.</summary>
    string Name { get; }

    /// <summary>The regular expression whose matches, and what lies between them, are the words.</summary>
    string Pattern { get; }

    /// <summary>Hands over the words of a text in order; joined, they are the text.</summary>
    /// <param name="utf8">Valid UTF-8.</param>
    /// <param name="sink">Takes the words.</param>
    /// <exception cref="InvalidDataException">A regular expression took too long.</exception>
    void Split<TSink>(ReadOnlySpan<byte> utf8, ref TSink sink)
        where TSink : IWordSink, allows ref struct;

    /// <summary>
    /// The largest length at which a text can be cut so that both parts, split one after another, have the words of the whole, whatever
    /// follows; 0 where there is no such place (regular expressions may look anywhere).
    /// </summary>
    int LastSafeCut(ReadOnlySpan<byte> utf8);
}

/// <summary>Takes words. Given as a struct, so that the calls are inlined.</summary>
public interface IWordSink
{
    /// <summary>Takes <c>utf8[start..end]</c>, which is not empty.</summary>
    void Add(ReadOnlySpan<byte> utf8, int start, int end);
}
