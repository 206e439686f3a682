using System.Text.Json;
using System.Text.Json.Serialization;

namespace LlmPipeline.Text.Cleaning;

/// <summary>
/// What cleaning did to some documents. Not safe for several threads: each unit of work counts for itself, and the counts are merged;
/// the order of merging does not matter.
/// </summary>
public sealed class CleaningCounts
{
    /// <summary>Documents that were cleaned.</summary>
    public long Documents { get; set; }

    /// <summary>Those of them that passed all filters.</summary>
    public long DocumentsKept { get; set; }

    /// <summary>By name of the step: <c>markup</c>, <c>unicode</c>, <c>personal_data</c>, <c>letter_case</c>, <c>punctuation</c>, <c>numbers</c>, <c>whitespace</c>. A step that changed nothing is absent.</summary>
    public SortedDictionary<string, StepCounts> Steps { get; init; } = new(StringComparer.Ordinal);

    /// <summary>Documents that were left out, by reason (<see cref="DropReason"/> in snake_case).</summary>
    public SortedDictionary<string, long> Dropped { get; init; } = new(StringComparer.Ordinal);

    /// <summary>By kind: <c>email</c>, <c>phone</c>, <c>ip</c>. Absent kinds were not found.</summary>
    public SortedDictionary<string, PersonalDataCounts> PersonalData { get; init; } = new(StringComparer.Ordinal);

    /// <summary>Adds other counts to these.</summary>
    public void Merge(CleaningCounts other)
    {
        Documents += other.Documents;
        DocumentsKept += other.DocumentsKept;
        foreach (var (name, step) in other.Steps)
        {
            Steps[name] = Steps.GetValueOrDefault(name, StepCounts.None) + step;
        }

        foreach (var (reason, documents) in other.Dropped)
        {
            Dropped[reason] = Dropped.GetValueOrDefault(reason) + documents;
        }

        foreach (var (kind, counts) in other.PersonalData)
        {
            PersonalData[kind] = PersonalData.GetValueOrDefault(kind, PersonalDataCounts.None) + counts;
        }
    }

    /// <summary>The counts as a JSON object.</summary>
    public string ToJson() => JsonSerializer.Serialize(this, CleaningJson.Default.CleaningCounts);

    /// <summary>Reads what <see cref="ToJson"/> wrote.</summary>
    /// <exception cref="JsonException">It is something else.</exception>
    public static CleaningCounts FromJson(string json) =>
        JsonSerializer.Deserialize(json, CleaningJson.Default.CleaningCounts) ?? throw new JsonException("The counts of cleaning are 'null'; expected an object.");

    internal void AddChange(string step, string before, string after)
    {
        var change = new StepCounts(1, CodePoints.Count(before) - CodePoints.Count(after), CodePoints.Utf8Length(before) - CodePoints.Utf8Length(after));
        Steps[step] = Steps.GetValueOrDefault(step, StepCounts.None) + change;
    }

    internal void AddDropped(DropReason reason)
    {
        var name = JsonNamingPolicy.SnakeCaseLower.ConvertName(reason.ToString());
        Dropped[name] = Dropped.GetValueOrDefault(name) + 1;
    }

    internal void AddPersonalData(PersonalDataKind kind, long found, long redacted)
    {
        var name = JsonNamingPolicy.SnakeCaseLower.ConvertName(kind.ToString());
        PersonalData[name] = PersonalData.GetValueOrDefault(name, PersonalDataCounts.None) + new PersonalDataCounts(found, redacted);
    }
}

/// <summary>What a step did.</summary>
/// <param name="DocumentsChanged">Documents that it changed.</param>
/// <param name="CharactersRemoved">Code points before less those after; negative where text grew.</param>
/// <param name="BytesRemoved">The same in bytes of UTF-8.</param>
public sealed record StepCounts(long DocumentsChanged, long CharactersRemoved, long BytesRemoved)
{
    internal static readonly StepCounts None = new(0, 0, 0);

    /// <summary>The sum of both.</summary>
    public static StepCounts operator +(StepCounts left, StepCounts right) =>
        new(left.DocumentsChanged + right.DocumentsChanged, left.CharactersRemoved + right.CharactersRemoved, left.BytesRemoved + right.BytesRemoved);
}

/// <summary>Personal data of one kind.</summary>
/// <param name="Found">Occurrences.</param>
/// <param name="Redacted">Those replaced by a mark.</param>
public sealed record PersonalDataCounts(long Found, long Redacted)
{
    internal static readonly PersonalDataCounts None = new(0, 0);

    /// <summary>The sum of both.</summary>
    public static PersonalDataCounts operator +(PersonalDataCounts left, PersonalDataCounts right) =>
        new(left.Found + right.Found, left.Redacted + right.Redacted);
}

/// <summary>Why a document was left out.</summary>
public enum DropReason
{
    /// <summary>Nothing but white space was left.</summary>
    Empty,

    /// <summary>Fewer code points than <see cref="QualityOptions.MinCharacters"/>.</summary>
    TooShort,

    /// <summary>More code points than <see cref="QualityOptions.MaxCharacters"/>.</summary>
    TooLong,

    /// <summary>Above <see cref="QualityOptions.MaxSymbolRatio"/>.</summary>
    Symbols,

    /// <summary>Above <see cref="QualityOptions.MaxRepeatedLineRatio"/>.</summary>
    RepeatedLines,

    /// <summary>Above <see cref="QualityOptions.MaxRepeatedNgramRatio"/>.</summary>
    RepeatedNgrams,
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(CleaningCounts))]
internal sealed partial class CleaningJson : JsonSerializerContext;
