using System.Globalization;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using LlmPipeline.Datasets.V1;
using LlmPipeline.Evaluations.V1;
using LlmPipeline.Runs.V1;

namespace LlmPipeline.Cli.Commands;

/// <summary>The same model on several kinds of tokens.</summary>
internal sealed class TokenizerComparison
{
    private const string Explanation = """
        All runs have the same spec but for the tokenizer. Bits per byte is the negative log-likelihood of the whole split over its bytes, so it does not depend on
        what a token is. Unknown text needs care: where a vocabulary has no token for a word, the model has only to predict that there is an unknown one, and not
        which. So the first figure, which counts its bytes as text that was predicted, flatters such a model. The second charges 8 bits, what a byte costs without
        any model, for each byte that decoding the tokens does not give back: compare by that one. The OOV rate is the share of the split's tokens that are unknown.
        """;

    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true, NewLine = "\n", Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>What the samples go on from.</summary>
    public required string Prompt { get; init; }

    /// <summary>In the order of the kinds that were asked for.</summary>
    public List<ComparedTokenizer> Entries { get; } = [];

    /// <summary>As Markdown.</summary>
    public string ToMarkdown()
    {
        var text = new StringBuilder("# Comparison of tokenizers\n\n").Append(Explanation.ReplaceLineEndings(" ").Trim()).Append("\n\n");
        text.Append("| tokens | ids | bytes a token | OOV rate | bits per byte | unknown text charged | n-gram, charged | loss (nats/token) | run |\n");
        text.Append("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n");
        foreach (var entry in Entries)
        {
            text.Append(CultureInfo.InvariantCulture, $"| {entry.Kind} | {entry.Dataset?.VocabularySize:N0} | {entry.BytesPerToken:F3} | {Percent(entry.OovRate)} |");
            text.Append(CultureInfo.InvariantCulture, $" {entry.Model?.BitsPerByte:F4} | {entry.Charged(entry.Model):F4} | {entry.Charged(entry.Ngram):F4} | {entry.Model?.Loss:F4} |");
            text.Append(CultureInfo.InvariantCulture, $" {entry.Run.Name} {(entry.Model is null ? $"({entry.Run.State}: {OneLine(entry.Run.Error?.Message ?? "")})" : "")} |\n");
        }

        text.Append(CultureInfo.InvariantCulture, $"\n## Samples\n\nAfter \"{OneLine(Prompt)}\", at temperature 0.8 with seed 1, about as many bytes from each.\n");
        foreach (var entry in Entries.Where(e => e.Model is not null))
        {
            text.Append(CultureInfo.InvariantCulture, $"\n### {entry.Kind}\n\n    {(Prompt + entry.Sample).ReplaceLineEndings("\n    ")}\n");
        }

        return text.ToString();
    }

    /// <summary>As JSON.</summary>
    public string ToJson() => new JsonObject
    {
        ["prompt"] = Prompt,
        ["tokenizers"] = new JsonArray([.. Entries.Select(e => (JsonNode)new JsonObject
        {
            ["kind"] = e.Kind,
            ["run"] = e.Run.Name,
            ["state"] = e.Run.State.ToString().ToUpperInvariant(),
            ["error"] = e.Run.Error?.Message,
            ["dataset"] = e.Dataset?.Name,
            ["tokenizer"] = e.Dataset?.Tokenizer,
            ["vocabulary_size"] = e.Dataset?.VocabularySize,
            ["split"] = e.Split?.Split,
            ["bytes_per_token"] = e.BytesPerToken,
            ["oov_rate"] = e.OovRate,
            ["unknown_byte_rate"] = e.UnknownByteRate,
            ["loss"] = e.Model?.Loss,
            ["bits_per_byte"] = e.Model?.BitsPerByte,
            ["bits_per_byte_charged"] = e.Charged(e.Model),
            ["ngram_bits_per_byte"] = e.Ngram?.BitsPerByte,
            ["ngram_bits_per_byte_charged"] = e.Charged(e.Ngram),
            ["sample"] = e.Sample,
        })]),
    }.ToJsonString(Indented) + "\n";

    private static string Percent(double? share) => share is { } value ? (value * 100).ToString("F2", CultureInfo.InvariantCulture) + " %" : "";

    private static string OneLine(string text) => text.ReplaceLineEndings(" ").Replace('|', '/');
}

/// <summary>What came of one kind.</summary>
/// <param name="Kind">The kind of tokenizer.</param>
/// <param name="Run">The run, over.</param>
/// <param name="Dataset">Its dataset; null unless the run succeeded.</param>
/// <param name="Split">The evaluated split; null unless the run succeeded.</param>
/// <param name="Sample">What the model wrote after the prompt.</param>
internal sealed record ComparedTokenizer(string Kind, Run Run, Dataset? Dataset, SplitStatistics? Split, string Sample)
{
    private const double BitsOfAByte = 8;

    public ModelQuality? Model => Run.State == Run.Types.State.Succeeded ? Run.Evaluation?.Model : null;

    public ModelQuality? Ngram => Run.State == Run.Types.State.Succeeded ? Run.Evaluation?.Ngram : null;

    public double? BytesPerToken => Split is { TokenCount: > 0 } ? (double)Split.ByteCount / Split.TokenCount : null;

    public double? OovRate => Split is { TokenCount: > 0 } ? (double)Split.UnknownTokenCount / Split.TokenCount : null;

    public double? UnknownByteRate => Split is { ByteCount: > 0 } ? (double)Split.UnknownByteCount / Split.ByteCount : null;

    /// <summary>Bits per byte, with 8 bits for each byte that the tokens do not give back.</summary>
    public double? Charged(ModelQuality? quality) => quality is null || UnknownByteRate is not { } rate ? null : quality.BitsPerByte + (BitsOfAByte * rate);
}
