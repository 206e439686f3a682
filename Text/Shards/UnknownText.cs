namespace LlmPipeline.Text.Shards;

/// <summary>What the ids of a text leave out.</summary>
/// <param name="Tokens">Ids that stand for something outside the vocabulary.</param>
/// <param name="Bytes">Bytes of UTF-8 that decoding does not give back.</param>
internal readonly record struct UnknownText(long Tokens, long Bytes)
{
    public static UnknownText operator +(UnknownText a, UnknownText b) => new(a.Tokens + b.Tokens, a.Bytes + b.Bytes);

    /// <summary>Counts the ids of a document.</summary>
    /// <param name="tokenizer">Made the ids.</param>
    /// <param name="ids">The ids of the text.</param>
    /// <param name="textBytes">Bytes of the text.</param>
    public static UnknownText Count(ITokenizer tokenizer, ReadOnlySpan<int> ids, long textBytes)
    {
        if (tokenizer.UnknownId is not { } unknown)
        {
            return default;
        }

        var (tokens, previous) = (0L, -1);
        foreach (var id in ids)
        {
            tokens += id == unknown ? 1 : 0;
            var bytes = tokenizer.BytesAfter(previous, id).Length;
            textBytes -= bytes;
            previous = bytes == 0 ? previous : id;
        }

        return new UnknownText(tokens, Math.Max(0, textBytes));
    }
}
