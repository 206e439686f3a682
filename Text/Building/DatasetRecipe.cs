using LlmPipeline.Text.Cleaning;

namespace LlmPipeline.Text.Building;

/// <summary>How a dataset is made, with every choice filled in.</summary>
public sealed record DatasetRecipe
{
    /// <summary><c>dotnet-docs:</c>, files, folders and globs, in the order in which they are read.</summary>
    public required IReadOnlyList<string> Sources { get; init; }

    /// <summary>Property of a .jsonl line that holds the text.</summary>
    public string TextField { get; init; } = "text";

    /// <summary>How documents are cleaned.</summary>
    public CleaningOptions Cleaning { get; init; } = new();

    /// <summary>"bpe" or "character".</summary>
    public string TokenizerKind { get; init; } = "bpe";

    /// <summary>Ids of a new BPE tokenizer, special tokens included.</summary>
    public int VocabularySize { get; init; } = 4096;

    /// <summary>A tokenizer that exists, instead of a new one. Format: <c>tokenizers/{t}</c>.</summary>
    public string? TokenizerName { get; init; }

    /// <summary>How documents are divided.</summary>
    public SplitMethod SplitMethod { get; init; }

    /// <summary>Share of validation, 0 to 0.5.</summary>
    public double ValidationFraction { get; init; } = 0.05;

    /// <summary>Share of test, 0 to 0.5.</summary>
    public double TestFraction { get; init; }

    /// <summary>Bytes of cleaned text after which reading stops; 0 reads everything.</summary>
    public long MaxBytes { get; init; }
}

/// <summary>How documents are divided into splits.</summary>
public enum SplitMethod
{
    /// <summary>By a hash of each document's text: the split of a document does not depend on the others.</summary>
    Document,

    /// <summary>The last part of all the text, in source order, cut at a character.</summary>
    Tail,
}
