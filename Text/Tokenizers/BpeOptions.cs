namespace LlmPipeline.Text;

/// <summary>What a byte-level byte-pair encoding is learned with.</summary>
/// <param name="VocabularySize">Ids to make, special tokens included. Fewer are made when no pair is frequent enough any more.</param>
public sealed record BpeOptions(int VocabularySize)
{
    /// <summary>Cut the text into the words that were counted; kept in the file.</summary>
    public IWordSplitter Splitter { get; init; } = WordSplitter.Default;

    /// <summary>Further special tokens, with the ids after that of the end of text, which is 0.</summary>
    public IReadOnlyList<string> SpecialTokens { get; init; } = [];

    /// <summary>Occurrences below which a pair is not merged.</summary>
    public long MinFrequency { get; init; } = 2;

    internal Dictionary<string, int> SpecialIds()
    {
        var ids = new Dictionary<string, int>(StringComparer.Ordinal) { [Text.SpecialTokens.EndOfText] = 0 };
        foreach (var token in SpecialTokens)
        {
            if (string.IsNullOrEmpty(token) || !ids.TryAdd(token, ids.Count))
            {
                throw new InvalidDataException($"The special token {BpeVocabulary.Quote(token ?? "")} is empty, comes twice, or is {Text.SpecialTokens.EndOfText}, which is always there.");
            }

            if (ByteAlphabet.TryRead(token) is { Length: 1 })
            {
                throw new InvalidDataException($"The special token {BpeVocabulary.Quote(token)} is how the file writes a byte: use a longer one, as <|name|>.");
            }
        }

        return ids;
    }
}
