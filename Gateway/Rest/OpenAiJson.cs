using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace LlmPipeline.Gateway.Rest;

/// <summary>Answer of <c>POST /v1/completions</c>, or one chunk of it.</summary>
internal sealed record CompletionBody(
    string Id,
    string Object,
    long Created,
    string Model,
    IReadOnlyList<CompletionChoice> Choices,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] CompletionUsage? Usage);

internal sealed record CompletionChoice(string Text, int Index, object? Logprobs, string? FinishReason);

internal sealed record CompletionUsage(int PromptTokens, int CompletionTokens, int TotalTokens);

/// <summary>Answer of <c>POST /v1/classify</c>.</summary>
internal sealed record ClassificationBody(
    string Id,
    string Object,
    long Created,
    string Model,
    IReadOnlyList<string> Labels,
    IReadOnlyList<ClassificationItem> Data,
    CompletionUsage Usage);

/// <summary>One text: the likeliest class, and the probability of each, in the order of the labels.</summary>
internal sealed record ClassificationItem(int Index, string Label, IReadOnlyList<double> Probs, int NumClasses);

/// <summary>A model; what follows <c>OwnedBy</c> is not OpenAI's.</summary>
internal sealed record ModelBody(
    string Id,
    string Object,
    long Created,
    string OwnedBy,
    string Version,
    string? Run,
    int ContextLength,
    long ParameterCount,
    double? Loss,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] IReadOnlyList<string>? Labels);

internal sealed record ModelListBody(string Object, IReadOnlyList<ModelBody> Data);

internal sealed record ErrorBody(ErrorDetails Error);

internal sealed record ErrorDetails(string Message, string Type, string? Param, string? Code);

[JsonSerializable(typeof(CompletionBody))]
[JsonSerializable(typeof(ClassificationBody))]
[JsonSerializable(typeof(ModelBody))]
[JsonSerializable(typeof(ModelListBody))]
[JsonSerializable(typeof(ErrorBody))]
internal sealed partial class OpenAiJson : JsonSerializerContext
{
    /// <summary>Text as it is: only what JSON itself needs is escaped, since the answers are never part of a page.</summary>
    public static readonly OpenAiJson Plain = new(new JsonSerializerOptions
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    });
}
