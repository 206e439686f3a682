using System.Text.Json;
using LlmPipeline.Gateway.Engine;

namespace LlmPipeline.Gateway.Rest;

/// <summary>Body of <c>POST /v1/completions</c>. Each field that is wrong gets an error that names it; so do fields nobody knows.</summary>
internal sealed record CompletionRequest(GenerationParameters Parameters, bool Stream, bool IncludeUsage, bool Echo)
{
    /// <summary>What OpenAI's API takes when <c>max_tokens</c> is missing.</summary>
    public const int DefaultMaxTokens = 16;

    // Fields of the API that change nothing here, as long as they ask for what is done anyway.
    private static readonly Dictionary<string, Func<JsonElement, bool>> Neutral = new(StringComparer.Ordinal)
    {
        ["user"] = _ => true,
        ["n"] = JsonFields.IsNumber(1),
        ["best_of"] = JsonFields.IsNumber(1),
        ["presence_penalty"] = JsonFields.IsNumber(0),
        ["frequency_penalty"] = JsonFields.IsNumber(0),
        ["logprobs"] = _ => false,
        ["suffix"] = value => value.ValueKind == JsonValueKind.String && value.GetString() == "",
        ["logit_bias"] = value => value.ValueKind == JsonValueKind.Object && !value.EnumerateObject().Any(),
    };

    /// <exception cref="GatewayException">A field is missing, unknown or of the wrong type.</exception>
    public static CompletionRequest Parse(JsonElement body)
    {
        if (body.ValueKind != JsonValueKind.Object)
        {
            throw GatewayException.Invalid("body", $"The body is {JsonFields.Describe(body)}: send a JSON object with \"model\" and \"prompt\".");
        }

        var parameters = new GenerationParameters { Model = "", MaxTokens = DefaultMaxTokens };
        var (stream, includeUsage, echo) = (false, (bool?)null, false);
        foreach (var field in body.EnumerateObject())
        {
            var value = field.Value;
            if (value.ValueKind == JsonValueKind.Null)
            {
                continue;
            }

            switch (field.Name)
            {
                case "model": parameters = parameters with { Model = JsonFields.Text(field) }; break;
                case "prompt": parameters = parameters with { Prompt = Prompt(field) }; break;
                case "max_tokens": parameters = parameters with { MaxTokens = JsonFields.Integer(field) }; break;
                case "temperature": parameters = parameters with { Temperature = JsonFields.Number(field) }; break;
                case "top_p": parameters = parameters with { TopP = JsonFields.Number(field) }; break;
                case "top_k": parameters = parameters with { TopK = JsonFields.Integer(field) }; break;
                case "seed": parameters = parameters with { Seed = JsonFields.Integer(field) }; break;
                case "stop": parameters = parameters with { Stop = Stop(field) }; break;
                case "stream": stream = JsonFields.Boolean(field); break;
                case "echo": echo = JsonFields.Boolean(field); break;
                case "stream_options": includeUsage = StreamOptions(field); break;
                default: RequireNeutral(field); break;
            }
        }

        if (includeUsage is not null && !stream)
        {
            throw GatewayException.Invalid("stream_options", "stream_options goes with \"stream\": true only.");
        }

        return new CompletionRequest(parameters, stream, includeUsage ?? false, echo);
    }

    private static string Prompt(JsonProperty field) => field.Value.ValueKind switch
    {
        JsonValueKind.Array when field.Value.GetArrayLength() == 1 && field.Value[0].ValueKind == JsonValueKind.String => JsonFields.TextOf(field.Value[0], "prompt"),
        JsonValueKind.String => JsonFields.TextOf(field.Value, "prompt"),
        JsonValueKind.Array when field.Value.GetArrayLength() != 1 =>
            throw GatewayException.Invalid("prompt", $"prompt is {JsonFields.Describe(field.Value)}: send one text a request."),
        _ => throw JsonFields.WrongType(field, "a string, or an array with one string"),
    };

    private static string[] Stop(JsonProperty field)
    {
        if (field.Value.ValueKind == JsonValueKind.String)
        {
            return [JsonFields.TextOf(field.Value, "stop")];
        }

        if (field.Value.ValueKind != JsonValueKind.Array || field.Value.EnumerateArray().Any(v => v.ValueKind != JsonValueKind.String))
        {
            throw JsonFields.WrongType(field, $"a string, or an array of at most {GenerationParameters.MaxStops} strings");
        }

        // One more than allowed is enough for the check that follows to say so.
        return field.Value.GetArrayLength() > GenerationParameters.MaxStops
            ? throw GatewayException.Invalid("stop", $"stop has {field.Value.GetArrayLength()} texts: give at most {GenerationParameters.MaxStops}.")
            : [.. field.Value.EnumerateArray().Select(v => JsonFields.TextOf(v, "stop"))];
    }

    private static bool StreamOptions(JsonProperty field)
    {
        if (field.Value.ValueKind != JsonValueKind.Object)
        {
            throw JsonFields.WrongType(field, "an object");
        }

        var include = false;
        foreach (var option in field.Value.EnumerateObject())
        {
            include = option.Name switch
            {
                "include_usage" => JsonFields.Boolean(option),
                "include_obfuscation" => include,
                _ => throw GatewayException.Invalid("stream_options", $"'{JsonFields.Printable(option.Name)}' is not a field of stream_options: there is include_usage."),
            };
        }

        return include;
    }

    private static void RequireNeutral(JsonProperty field)
    {
        if (!Neutral.TryGetValue(field.Name, out var isNeutral))
        {
            throw GatewayException.Invalid(
                JsonFields.Printable(field.Name),
                $"'{JsonFields.Printable(field.Name)}' is not a known field. Known: model, prompt, max_tokens, temperature, top_p, top_k, seed, stop, stream, stream_options, echo.");
        }

        if (!isNeutral(field.Value))
        {
            throw GatewayException.Invalid(field.Name, $"{field.Name} is {JsonFields.Describe(field.Value)}, which is not supported: leave it out.");
        }
    }
}
