using System.Text.Json;
using System.Text.Json.Serialization;

namespace LlmPipeline.Text.Reports;

/// <summary>Documents and bytes by language. Merged in any order, counts are the same. Not safe for several threads.</summary>
public sealed class LanguageCounts
{
    /// <summary>By <c>language-script</c>, such as <c>en-Latn</c>.</summary>
    public SortedDictionary<string, LanguageSize> Languages { get; init; } = new(StringComparer.Ordinal);

    /// <summary>Adds a document.</summary>
    public void Add(DetectedLanguage language, long bytes)
    {
        var key = $"{language.Language}-{language.Script}";
        Languages[key] = Languages.GetValueOrDefault(key, LanguageSize.None) + new LanguageSize(1, bytes);
    }

    /// <summary>Adds other counts to these.</summary>
    public void Merge(LanguageCounts other)
    {
        foreach (var (key, size) in other.Languages)
        {
            Languages[key] = Languages.GetValueOrDefault(key, LanguageSize.None) + size;
        }
    }

    /// <summary>The counts as a JSON object.</summary>
    public string ToJson() => JsonSerializer.Serialize(this, LanguageJson.Default.LanguageCounts);

    /// <summary>Reads what <see cref="ToJson"/> wrote.</summary>
    /// <exception cref="JsonException">It is something else.</exception>
    public static LanguageCounts FromJson(string json) =>
        JsonSerializer.Deserialize(json, LanguageJson.Default.LanguageCounts) ?? throw new JsonException("The counts of languages are 'null'; expected an object.");
}

/// <summary>How much text there is in a language.</summary>
/// <param name="Documents">Documents.</param>
/// <param name="Bytes">Bytes of UTF-8.</param>
public sealed record LanguageSize(long Documents, long Bytes)
{
    internal static readonly LanguageSize None = new(0, 0);

    /// <summary>The sum of both.</summary>
    public static LanguageSize operator +(LanguageSize left, LanguageSize right) => new(left.Documents + right.Documents, left.Bytes + right.Bytes);
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(LanguageCounts))]
internal sealed partial class LanguageJson : JsonSerializerContext;
