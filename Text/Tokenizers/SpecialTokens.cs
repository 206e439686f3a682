namespace LlmPipeline.Text;

/// <summary>Ids that stand for no text.</summary>
public static class SpecialTokens
{
    /// <summary>Follows every document.</summary>
    public const string EndOfText = "<|endoftext|>";

    /// <summary>Stands for every character outside a character vocabulary.</summary>
    public const string Unknown = "<unk>";
}
