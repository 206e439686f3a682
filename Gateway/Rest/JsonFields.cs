using System.Text.Json;

namespace LlmPipeline.Gateway.Rest;

/// <summary>Reads fields of a request; what is wrong gets an error that names the field.</summary>
internal static class JsonFields
{
    public static string Text(JsonProperty field) =>
        field.Value.ValueKind == JsonValueKind.String ? TextOf(field.Value, field.Name) : throw WrongType(field, "a string");

    public static string TextOf(JsonElement value, string name)
    {
        try
        {
            return value.GetString()!;
        }
        catch (InvalidOperationException)
        {
            throw GatewayException.Invalid(name, $"{name} is not valid Unicode: it has half of a surrogate pair.");
        }
    }

    public static long Integer(JsonProperty field) =>
        field.Value.ValueKind == JsonValueKind.Number && field.Value.TryGetInt64(out var number) ? number : throw WrongType(field, "a whole number of at most 64 bits");

    public static double Number(JsonProperty field) =>
        field.Value.ValueKind == JsonValueKind.Number && field.Value.TryGetDouble(out var number) ? number : throw WrongType(field, "a number");

    public static bool Boolean(JsonProperty field) =>
        field.Value.ValueKind is JsonValueKind.True or JsonValueKind.False ? field.Value.GetBoolean() : throw WrongType(field, "true or false");

    public static GatewayException WrongType(JsonProperty field, string expected) =>
        GatewayException.Invalid(field.Name, $"{field.Name} is {Describe(field.Value)}: give {expected}.");

    public static Func<JsonElement, bool> IsNumber(double expected) => value =>
        value.ValueKind == JsonValueKind.Number && value.TryGetDouble(out var number) && number == expected;

    public static string Describe(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.Array => $"an array of {value.GetArrayLength()}",
        JsonValueKind.Object => "an object",
        JsonValueKind.String => $"the string {Printable(value.GetRawText())}",
        _ => Printable(value.GetRawText()),
    };

    public static string Printable(string text) =>
        string.Concat(text.Take(60).Select(c => char.IsControl(c) ? '?' : c)) + (text.Length > 60 ? "..." : "");
}
