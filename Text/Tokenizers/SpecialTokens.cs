namespace LlmPipeline.Text;

/// <summary>Ids that stand for no text.</summary>
public static class SpecialTokens
{
    /// <summary>Follows every document.</summary>
    public const string EndOfText = "<|endoftext|>";

    /// <summary>Stands for what is outside a vocabulary.</summary>
    public const string Unknown = "<unk>";

    /// <summary>Stands for a token that a masked model is to fill in.</summary>
    public const string Mask = "<|mask|>";

    /// <summary>The names that the mask token has: this project's, BERT's, RoBERTa's.</summary>
    private static readonly string[] Masks = [Mask, "[MASK]", "<mask>"];

    /// <summary>Id of the mask token; null where there is none.</summary>
    /// <param name="specialIds">Special tokens and their ids.</param>
    public static int? MaskIn(IReadOnlyDictionary<string, int> specialIds)
    {
        ArgumentNullException.ThrowIfNull(specialIds);
        return Masks.FirstOrDefault(specialIds.ContainsKey) is { } name ? specialIds[name] : null;
    }

    /// <summary>Stands for words that cannot be made of word pieces.</summary>
    public const string WordPieceUnknown = "[UNK]";
}
