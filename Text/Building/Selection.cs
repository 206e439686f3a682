using System.Globalization;

namespace LlmPipeline.Text.Building;

/// <summary>Which documents the dataset has, and in which split: what holds for all units. <c>select/{unit}</c> has a byte for each document of a unit.</summary>
internal sealed record Selection
{
    /// <summary>The byte of a document that is left out; others are the number of its split.</summary>
    public const byte Dropped = 0xFF;

    /// <summary>Units that were looked at: with a limit, what follows is not needed.</summary>
    public required int UnitCount { get; init; }

    /// <summary>Position of the first character of each unit in all kept text, for tail splits.</summary>
    public required IReadOnlyList<long> FirstCharacters { get; init; }

    /// <summary>Kept documents, bytes and characters of each split; with a tail split, all is in the first.</summary>
    public required IReadOnlyList<SizeCounts> Splits { get; init; }

    /// <summary>Kept bytes of the training split, by part of the mixture.</summary>
    public required IReadOnlyList<long> PartBytes { get; init; }

    /// <summary>Kept documents, by part of the mixture.</summary>
    public required IReadOnlyList<long> PartDocuments { get; init; }

    /// <summary>Documents dropped because an earlier one had the same text.</summary>
    public required long Duplicates { get; init; }

    /// <summary>Documents similar to an earlier one: dropped, or, where they are kept, put into its split.</summary>
    public required long NearDuplicates { get; init; }

    /// <summary>Names of the classes of the kept documents, in the order of their numbers; null where documents have none.</summary>
    public IReadOnlyList<string>? Labels { get; init; }

    /// <summary>The class of all documents of each unit, where parts of the mixture are classes; null otherwise.</summary>
    public IReadOnlyList<int>? UnitLabels { get; init; }

    /// <summary>The document that the limit cuts; null without one.</summary>
    public CutDocument? Cut { get; init; }

    public long Documents => Splits.Sum(s => s.Documents);

    public long Bytes => Splits.Sum(s => s.Bytes);

    public long Characters => Splits.Sum(s => s.Characters);

    public static string UnitFile(int unit) => string.Create(CultureInfo.InvariantCulture, $"select/{unit:D6}");
}

/// <summary>Sizes of documents.</summary>
internal sealed record SizeCounts(long Documents, long Bytes, long Characters)
{
    public SizeCounts Add(long bytes, long characters) => new(Documents + 1, Bytes + bytes, Characters + characters);
}

/// <summary>A document that is not taken to its end.</summary>
/// <param name="Unit">Its unit.</param>
/// <param name="Document">Its number in the unit.</param>
/// <param name="Bytes">How much of it is taken, at most; the cut is at a character.</param>
internal sealed record CutDocument(int Unit, int Document, int Bytes);
