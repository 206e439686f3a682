using System.Text.Json;
using LlmPipeline.Gateway.Engine;
using Microsoft.Extensions.Options;

namespace LlmPipeline.Gateway.Rest;

/// <summary><c>POST /v1/classify</c>: the classes of one or more texts, in the shape of vLLM's <c>/classify</c>.</summary>
internal sealed class ClassifyEndpoint(
    GenerationEngine engine, IOptions<GatewayOptions> options, TimeProvider time, ILogger<ClassifyEndpoint> logger) : JsonEndpoint(options, logger)
{
    /// <inheritdoc/>
    protected override async Task AnswerAsync(HttpContext context, JsonElement body)
    {
        await using var classification = await engine.StartAsync(Parse(body), context.RequestAborted);
        var result = await classification.ReadAsync(context.RequestAborted);
        context.Response.ContentType = "application/json";
        var answer = new ClassificationBody(
            $"classify-{Guid.NewGuid():N}",
            "list",
            time.GetUtcNow().ToUnixTimeSeconds(),
            classification.Version.Name,
            result.Labels,
            [.. result.Probabilities.Select((probs, index) => new ClassificationItem(index, result.Likeliest(probs), probs, probs.Length))],
            new CompletionUsage(result.TokenCount, 0, result.TokenCount));
        await JsonSerializer.SerializeAsync(context.Response.Body, answer, OpenAiJson.Plain.ClassificationBody, context.RequestAborted);
    }

    private static ClassificationParameters Parse(JsonElement body)
    {
        if (body.ValueKind != JsonValueKind.Object)
        {
            throw GatewayException.Invalid("body", $"The body is {JsonFields.Describe(body)}: send a JSON object with \"model\" and \"input\".");
        }

        var parameters = new ClassificationParameters { Model = "" };
        foreach (var field in body.EnumerateObject().Where(f => f.Value.ValueKind != JsonValueKind.Null))
        {
            parameters = field.Name switch
            {
                "model" => parameters with { Model = JsonFields.Text(field) },
                "input" => parameters with { Inputs = Input(field) },
                "user" => parameters,
                _ => throw GatewayException.Invalid(JsonFields.Printable(field.Name), $"'{JsonFields.Printable(field.Name)}' is not a known field. Known: model, input, user."),
            };
        }

        return parameters;
    }

    private static string[] Input(JsonProperty field) => field.Value.ValueKind switch
    {
        JsonValueKind.String => [JsonFields.TextOf(field.Value, "input")],
        JsonValueKind.Array when field.Value.GetArrayLength() > ClassificationParameters.MaxInputs =>
            throw GatewayException.Invalid("input", $"input has {field.Value.GetArrayLength()} texts: give 1 to {ClassificationParameters.MaxInputs}."),
        JsonValueKind.Array when field.Value.EnumerateArray().All(v => v.ValueKind == JsonValueKind.String) => [.. field.Value.EnumerateArray().Select(v => JsonFields.TextOf(v, "input"))],
        _ => throw JsonFields.WrongType(field, "a string, or an array of strings"),
    };
}
