using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace LlmPipeline.Text.Reports;

/// <summary>How a tokenizer cuts texts, label by label (languages, for example), beside another tokenizer where one is given.</summary>
public sealed record TokenizerReport
{
    /// <summary>Name or file of the tokenizer.</summary>
    public required string Tokenizer { get; init; }

    /// <summary>See <see cref="ITokenizer.Kind"/>.</summary>
    public required string Kind { get; init; }

    /// <summary>Number of ids.</summary>
    public required int VocabularySize { get; init; }

    /// <summary>Name or file of the tokenizer beside it, for example GPT-2's; null where there is none.</summary>
    public string? Reference { get; init; }

    /// <summary>The label whose tokens count as 1 in <see cref="TokenizerMeasure.Ratio"/>; null where texts are not parallel.</summary>
    public string? Baseline { get; init; }

    /// <summary>In the order in which labels came.</summary>
    public required IReadOnlyList<TokenizerMeasure> Labels { get; init; }

    /// <summary>All texts.</summary>
    public required TokenizerMeasure Total { get; init; }

    /// <summary>As JSON.</summary>
    public string ToJson() => JsonSerializer.Serialize(this, TokenizerReportJson.Relaxed.TokenizerReport) + "\n";

    /// <summary>As Markdown.</summary>
    public string ToMarkdown() => TokenizerReportMarkdown.Write(this);
}

/// <summary>Figures of the texts under one label.</summary>
public sealed record TokenizerMeasure
{
    /// <summary>The label.</summary>
    public required string Label { get; init; }

    /// <summary>Bytes of UTF-8.</summary>
    public required long Bytes { get; init; }

    /// <summary>Code points.</summary>
    public required long Characters { get; init; }

    /// <summary>What white space separates.</summary>
    public required long Words { get; init; }

    /// <summary>Tokens, without those that end a text.</summary>
    public required long Tokens { get; init; }

    /// <summary>Tokens that stand for something outside the vocabulary.</summary>
    public required long UnknownTokens { get; init; }

    /// <summary>Tokens of the reference tokenizer.</summary>
    public long? ReferenceTokens { get; init; }

    /// <summary>Tokens over those of the baseline label.</summary>
    public double? Ratio { get; init; }

    /// <summary>The same of the reference tokenizer.</summary>
    public double? ReferenceRatio { get; init; }

    /// <summary>Fertility: tokens a word.</summary>
    public double TokensPerWord => Words == 0 ? 0 : (double)Tokens / Words;

    /// <summary>Bytes a token.</summary>
    public double BytesPerToken => Tokens == 0 ? 0 : (double)Bytes / Tokens;

    /// <summary>Share of the tokens that are unknown, 0 to 1.</summary>
    public double UnknownRate => Tokens == 0 ? 0 : (double)UnknownTokens / Tokens;

    /// <summary>Tokens a word of the reference tokenizer.</summary>
    public double? ReferenceTokensPerWord => ReferenceTokens is { } tokens && Words > 0 ? (double)tokens / Words : null;

    /// <summary>Bytes a token of the reference tokenizer.</summary>
    public double? ReferenceBytesPerToken => ReferenceTokens is > 0 and var tokens ? (double)Bytes / tokens : null;
}

[JsonSerializable(typeof(TokenizerReport))]
internal sealed partial class TokenizerReportJson : JsonSerializerContext
{
    /// <summary>Labels in any script are readable.</summary>
    public static TokenizerReportJson Relaxed { get; } = new(new JsonSerializerOptions
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        WriteIndented = true,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        NewLine = "\n",
    });
}
