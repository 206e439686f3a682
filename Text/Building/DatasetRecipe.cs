using System.Text.Json.Serialization;
using LlmPipeline.Text.Cleaning;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Text.Building;

/// <summary>How a dataset is made, with every choice filled in.</summary>
public sealed record DatasetRecipe
{
    /// <summary>What the text is made of, in the order in which it is read; empty when <see cref="Mixture"/> says it.</summary>
    public IReadOnlyList<string> Sources { get; init; } = [];

    /// <summary>Parts with weights, instead of <see cref="Sources"/>.</summary>
    public IReadOnlyList<MixturePart> Mixture { get; init; } = [];

    /// <summary>The property or column that holds the text.</summary>
    public string TextField { get; init; } = "text";

    /// <summary>The property or column that holds the class of a document; null for none.</summary>
    public string? LabelField { get; init; }

    /// <summary>The class of a document is the label of its part of the mixture.</summary>
    public bool LabelParts { get; init; }

    /// <summary>Each line of a plain text is a document.</summary>
    public bool Lines { get; init; }

    /// <summary>What happens to records that cannot be read.</summary>
    public InvalidRecords OnInvalid { get; init; }

    /// <summary>How documents are cleaned, and which are left out.</summary>
    public CleaningOptions Cleaning { get; init; } = new();

    /// <summary>How text becomes ids.</summary>
    public TokenizerRecipe Tokenizer { get; init; } = new();

    /// <summary>How documents are divided.</summary>
    public SplitMethod SplitMethod { get; init; }

    /// <summary>Share of validation, 0 to 0.5.</summary>
    public double ValidationFraction { get; init; } = 0.05;

    /// <summary>Share of test, 0 to 0.5.</summary>
    public double TestFraction { get; init; }

    /// <summary>Bytes of cleaned text after which reading stops; 0 reads everything.</summary>
    public long MaxBytes { get; init; }

    /// <summary>Order of the training documents.</summary>
    public DocumentOrder Order { get; init; }

    /// <summary>Training tokens to write; 0 for no limit.</summary>
    public long MaxTokens { get; init; }

    /// <summary>Where documents lie in the records of source files.</summary>
    [JsonIgnore]
    internal RecordFields Fields => new(TextField, LabelField, Lines);

    /// <summary>The parts; one, without a weight, where there is no mixture.</summary>
    [JsonIgnore]
    internal IReadOnlyList<MixturePart> Parts => Mixture.Count > 0 ? Mixture : [new MixturePart(Sources, Sources[0])];
}

/// <summary>A part of a mixture.</summary>
/// <param name="Sources">As <see cref="DatasetRecipe.Sources"/>.</param>
/// <param name="Label">What reports call it.</param>
/// <param name="Weight">Share of the training tokens, relative to the other parts; null takes all of the part, once.</param>
public sealed record MixturePart(IReadOnlyList<string> Sources, string Label, double? Weight = null);

/// <summary>A tokenizer to train, or one that exists.</summary>
public sealed record TokenizerRecipe
{
    /// <summary>What is trained.</summary>
    public TokenizerOptions Options { get; init; } = new();

    /// <summary>A tokenizer that exists, instead. Format: <c>tokenizers/{t}</c>.</summary>
    public string? Name { get; init; }

    /// <summary>A part with share p of the text counts as p to this power.</summary>
    public double Balance { get; init; } = 1;
}

/// <summary>How documents are divided into splits.</summary>
public enum SplitMethod
{
    /// <summary>By a hash of each document's text: the split of a document does not depend on the others.</summary>
    Document,

    /// <summary>The last part of all the text, in source order, cut at a character.</summary>
    Tail,
}

/// <summary>Order of training documents.</summary>
public enum DocumentOrder
{
    /// <summary>As they were read.</summary>
    Source,

    /// <summary>By a hash of the text.</summary>
    Shuffled,

    /// <summary>Shortest first.</summary>
    Length,
}
