using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using LlmPipeline.Storage;

namespace LlmPipeline.Text.Shards;

/// <summary>What a dataset's manifest says about it besides its files.</summary>
public sealed record DatasetProperties
{
    /// <summary>The format that this code writes and reads.</summary>
    public const string CurrentFormat = "token-shards/1";

    /// <summary>Always <see cref="CurrentFormat"/>.</summary>
    public required string Format { get; init; }

    /// <summary>Format: <c>tokenizers/{t}</c>.</summary>
    public required string Tokenizer { get; init; }

    /// <summary>SHA-256 of the tokenizer file, lower-case hexadecimal.</summary>
    public required string TokenizerHash { get; init; }

    /// <summary>Ids are 0 to this, exclusive.</summary>
    public required int VocabularySize { get; init; }

    /// <summary>Names of the classes of documents; the id of class k, <see cref="VocabularySize"/> + k, ends a document in place of the end of text. Null for none.</summary>
    public IReadOnlyList<string>? Labels { get; init; }

    /// <summary>"uint16" or "uint32", little-endian.</summary>
    public required string DataType { get; init; }

    /// <summary>Different documents, over all splits; a document that a tail split cuts counts once.</summary>
    public required long DocumentCount { get; init; }

    /// <summary>Documents dropped because an earlier one had the same text.</summary>
    public required long DuplicateCount { get; init; }

    /// <summary>Documents similar to an earlier one: dropped, or, where they are kept, put into its split.</summary>
    public long NearDuplicateCount { get; init; }

    /// <summary>Records that could not be read and were left out.</summary>
    public long SkippedCount { get; init; }

    /// <summary>Bytes of source files.</summary>
    public required long SourceByteCount { get; init; }

    /// <summary>The splits that the dataset has.</summary>
    public required IReadOnlyList<SplitProperties> Splits { get; init; }

    /// <summary>The parts of a mixture; null where there is none.</summary>
    public IReadOnlyList<PartProperties>? Mixture { get; init; }

    /// <summary>The fully resolved spec that the dataset was made from.</summary>
    public JsonNode? Spec { get; init; }

    /// <summary>Identifies spec and source files.</summary>
    public string? Fingerprint { get; init; }

    /// <summary>The properties in a manifest.</summary>
    /// <exception cref="CorruptDirectoryException">The manifest is not that of a dataset.</exception>
    public static DatasetProperties FromManifest(DirectoryManifest manifest, string name)
    {
        DatasetProperties? properties;
        try
        {
            properties = manifest.Properties.Deserialize(DatasetJson.Default.DatasetProperties);
        }
        catch (JsonException exception)
        {
            throw new CorruptDirectoryException($"'{name}' has a manifest that is not a dataset's: {exception.Message} Delete the dataset and create it again.");
        }

        return properties?.Format == CurrentFormat ? properties : throw new CorruptDirectoryException(
            $"'{name}' has format '{properties?.Format}'; this version reads '{CurrentFormat}'. Delete the dataset and create it again.");
    }

    /// <summary>For <see cref="DirectoryWriter.CommitAsync"/>.</summary>
    public JsonObject ToJson() => JsonSerializer.SerializeToNode(this, DatasetJson.Default.DatasetProperties)!.AsObject();
}

/// <summary>One split in a manifest.</summary>
public sealed record SplitProperties
{
    /// <summary>"train", "validation" or "test".</summary>
    public required string Split { get; init; }

    /// <summary>Documents, the parts of cut ones included.</summary>
    public required long DocumentCount { get; init; }

    /// <summary>Ids, end-of-text ids included.</summary>
    public required long TokenCount { get; init; }

    /// <summary>Bytes of cleaned UTF-8 text.</summary>
    public required long ByteCount { get; init; }

    /// <summary>Code points of cleaned text.</summary>
    public required long CharacterCount { get; init; }

    /// <summary>Ids that stand for text outside the vocabulary.</summary>
    public long UnknownTokenCount { get; init; }

    /// <summary>Bytes of the text that decoding does not give back: what unknown ids stand for, and what the kind of tokenizer drops.</summary>
    public long UnknownByteCount { get; init; }

    /// <summary>Files of ids, in order.</summary>
    public required IReadOnlyList<string> Shards { get; init; }

    /// <summary>File with the end position of each document, in tokens, as little-endian uint64.</summary>
    public required string Documents { get; init; }
}

/// <summary>A part of a mixture in a manifest.</summary>
/// <param name="Label">What reports call it.</param>
/// <param name="AvailableTokens">Training ids that its text makes.</param>
/// <param name="TokenCount">Training ids that were written of it: fewer where it was cut, more where it was repeated.</param>
public sealed record PartProperties(string Label, long AvailableTokens, long TokenCount);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(DatasetProperties))]
internal sealed partial class DatasetJson : JsonSerializerContext;
