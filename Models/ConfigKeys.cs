using System.Text.Encodings.Web;
using System.Text.Json;

namespace LlmPipeline.Models;

/// <summary>The keys of a <c>config.json</c>. Errors name the file and the key.</summary>
/// <param name="Root">The object.</param>
/// <param name="Path">Of the file, for messages.</param>
internal sealed record ConfigKeys(JsonElement Root, string Path)
{
    /// <summary>The key that says what a model is.</summary>
    public const string ModelType = "model_type";

    /// <summary>How configuration files are written.</summary>
    public static readonly JsonSerializerOptions Indented = new() { WriteIndented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>Reads a file.</summary>
    /// <exception cref="InvalidDataException">It is not a JSON object.</exception>
    public static ConfigKeys Read(string path)
    {
        try
        {
            using var document = JsonDocument.Parse(File.ReadAllText(path));
            return document.RootElement.ValueKind == JsonValueKind.Object
                ? new ConfigKeys(document.RootElement.Clone(), path)
                : throw new InvalidDataException($"'{path}' must be a JSON object.");
        }
        catch (JsonException exception)
        {
            throw new InvalidDataException($"'{path}' is not valid JSON: {exception.Message}", exception);
        }
    }

    public bool Has(string key) => Root.TryGetProperty(key, out var value) && value.ValueKind != JsonValueKind.Null;

    // An end-of-text id may be a list; its first counts.
    public int Integer(string key)
    {
        var value = Has(key) ? Root.GetProperty(key) : throw Wrong(key, "missing");
        value = value.ValueKind == JsonValueKind.Array && value.GetArrayLength() > 0 ? value[0] : value;
        return value.ValueKind == JsonValueKind.Number && value.TryGetInt32(out var number) ? number : throw Wrong(key, $"{value.GetRawText()}, not a whole number");
    }

    public double Real(string key, double absent)
        => !Has(key) ? absent : Root.GetProperty(key) is { ValueKind: JsonValueKind.Number } value ? value.GetDouble() : throw Wrong(key, "not a number");

    public string Text(string key, string absent)
        => !Has(key) ? absent : Root.GetProperty(key) is { ValueKind: JsonValueKind.String } value ? value.GetString()! : throw Wrong(key, "not a string");

    public bool Bool(string key, bool absent)
        => !Has(key) ? absent : Root.GetProperty(key) is { ValueKind: JsonValueKind.True or JsonValueKind.False } value ? value.GetBoolean() : throw Wrong(key, "not true or false");

    /// <summary>The keys of an object within; messages name the file.</summary>
    public ConfigKeys Object(string key) => Root.GetProperty(key) is { ValueKind: JsonValueKind.Object } value ? this with { Root = value } : throw Wrong(key, "not an object");

    public void Require(string key, string expected)
    {
        if (Text(key, "") is var value && value != expected)
        {
            throw Wrong(key, $"'{value}'; '{expected}' is supported");
        }
    }

    public void RequireBool(string key, bool expected)
    {
        if (Bool(key, expected) != expected)
        {
            throw Wrong(key, $"{(expected ? "false" : "true")}, which this project does not compute");
        }
    }

    public InvalidDataException Wrong(string key, string what) => new($"'{Path}': {key} is {what}.");
}
