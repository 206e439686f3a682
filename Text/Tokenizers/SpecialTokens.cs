namespace LlmPipeline.Text;

/// <summary>Ids that stand for no text.</summary>
public static class SpecialTokens
{
    /// <summary>Follows every document.</summary>
    public const string EndOfText = "<|endoftext|>";

    /// <summary>Stands for what is outside a vocabulary.</summary>
    public const string Unknown = "<unk>";

    /// <summary>Stands for words that cannot be made of word pieces.</summary>
    public const string WordPieceUnknown = "[UNK]";
}
