using System.Text.Json;
using System.Text.Json.Serialization;
using LlmPipeline.Text.Cleaning;

namespace LlmPipeline.Text.Reports;

/// <summary>What is in a dataset and what was done to it, for people and programs; lies beside its shards.</summary>
public sealed record DataCard
{
    /// <summary>The format that this code writes and reads.</summary>
    public const string CurrentFormat = "data-card/1";

    /// <summary>Name of the file that <see cref="ToJson"/> fills.</summary>
    public const string JsonFile = "data_card.json";

    /// <summary>Name of the file that <see cref="ToMarkdown"/> fills.</summary>
    public const string MarkdownFile = "data_card.md";

    /// <summary>Always <see cref="CurrentFormat"/>.</summary>
    public string Format { get; init; } = CurrentFormat;

    /// <summary>Format: <c>datasets/{d}</c>.</summary>
    public required string Dataset { get; init; }

    /// <summary>Format: <c>tokenizers/{t}</c>.</summary>
    public required string Tokenizer { get; init; }

    /// <summary>Ids of the tokenizer.</summary>
    public required int VocabularySize { get; init; }

    /// <summary>What was read, in order.</summary>
    public required IReadOnlyList<CardSource> Sources { get; init; }

    /// <summary>What was made.</summary>
    public required IReadOnlyList<CardSplit> Splits { get; init; }

    /// <summary>Documents that passed cleaning, by language, before duplicates were left out.</summary>
    public required LanguageCounts Languages { get; init; }

    /// <summary>What cleaning did.</summary>
    public required CleaningCounts Cleaning { get; init; }

    /// <summary>Duplicates among the documents that passed cleaning.</summary>
    public required CardDuplicates Duplicates { get; init; }

    /// <summary>Records that could not be read.</summary>
    public required CardSkipped Skipped { get; init; }

    /// <summary>What the splits share.</summary>
    public required CardLeaks Leaks { get; init; }

    /// <summary>The card as indented JSON.</summary>
    public string ToJson() => JsonSerializer.Serialize(this, DataCardJson.Default.DataCard) + "\n";

    /// <summary>The card as Markdown.</summary>
    public string ToMarkdown() => DataCardMarkdown.Write(this);

    /// <summary>Reads what <see cref="ToJson"/> wrote.</summary>
    /// <exception cref="JsonException">It is something else.</exception>
    public static DataCard FromJson(ReadOnlySpan<byte> json)
    {
        var card = JsonSerializer.Deserialize(json, DataCardJson.Default.DataCard);
        return card?.Format == CurrentFormat ? card : throw new JsonException(
            $"The data card has format '{card?.Format}'; this version reads '{CurrentFormat}'. Delete the dataset and create it again.");
    }
}

/// <summary>A source, or a part of a mixture.</summary>
/// <param name="Label">What reports call it.</param>
/// <param name="Files">Files read.</param>
/// <param name="Bytes">Their bytes.</param>
/// <param name="Documents">Documents of it in the dataset.</param>
/// <param name="Weight">Its weight in a mixture; null without one.</param>
public sealed record CardSource(string Label, long Files, long Bytes, long Documents, double? Weight = null);

/// <summary>A split.</summary>
/// <param name="Split">"train", "validation" or "test".</param>
/// <param name="Documents">Documents.</param>
/// <param name="Tokens">Tokens, end-of-text tokens included.</param>
/// <param name="Bytes">Bytes of cleaned text.</param>
/// <param name="Characters">Code points of cleaned text.</param>
public sealed record CardSplit(string Split, long Documents, long Tokens, long Bytes, long Characters);

/// <summary>Duplicates.</summary>
/// <param name="Exact">Documents with the text of an earlier one.</param>
/// <param name="Near">Other documents that are not the first of their kind.</param>
/// <param name="ExactRemoved">Whether the first were left out.</param>
/// <param name="NearMode">"off", "keep" or "remove".</param>
/// <param name="Threshold">Similarity from which documents are near-duplicates.</param>
public sealed record CardDuplicates(long Exact, long Near, bool ExactRemoved, string NearMode, double Threshold);

/// <summary>Records that could not be read.</summary>
/// <param name="Records">How many.</param>
/// <param name="First">What was wrong with the first; null when there is none.</param>
public sealed record CardSkipped(long Records, string? First = null);

/// <summary>What the splits share.</summary>
/// <param name="Documents">Documents in more than one split.</param>
/// <param name="Ngrams">By split, other than train: its word 13-grams that train has too.</param>
public sealed record CardLeaks(SplitLeaks Documents, SortedDictionary<string, NgramShare> Ngrams);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, WriteIndented = true, NewLine = "\n")]
[JsonSerializable(typeof(DataCard))]
internal sealed partial class DataCardJson : JsonSerializerContext;
