using System.Diagnostics.CodeAnalysis;
using System.Text.Json;

namespace LlmPipeline.Text;

/// <summary>A value of a JSON file and its path there, which every message names.</summary>
internal readonly record struct JsonPart(JsonElement Element, string Path)
{
    // Nothing that describes a tokenizer comes near: a hostile file cannot make the reader's memory its own.
    private const int MaxDepth = 64;
    private const int MaxValues = 6_000_000;

    /// <summary>Parses a file.</summary>
    /// <param name="utf8">The whole file, without a byte order mark.</param>
    /// <exception cref="InvalidDataException">It is not JSON, or too deep or large; the message has line and byte.</exception>
    public static JsonDocument Parse(ReadOnlyMemory<byte> utf8)
    {
        try
        {
            var reader = new Utf8JsonReader(utf8.Span, new JsonReaderOptions { MaxDepth = MaxDepth });
            for (var values = 0; reader.Read(); values++)
            {
                if (values >= MaxValues)
                {
                    throw new InvalidDataException($"the file has more than {MaxValues} values (byte {reader.BytesConsumed}): no tokenizer has as many.");
                }
            }

            return JsonDocument.Parse(utf8, new JsonDocumentOptions { MaxDepth = MaxDepth });
        }
        catch (JsonException exception)
        {
            throw new InvalidDataException($"the file is not JSON: line {exception.LineNumber + 1}, byte {exception.BytePositionInLine + 1}: {exception.Message}", exception);
        }
    }

    /// <summary>A property that has to be there.</summary>
    public JsonPart Get(string name) => TryGetRaw(name, out var found) ? found : throw new InvalidDataException($"{Child(name)} is missing.");

    /// <summary>A property that may be missing or null.</summary>
    public bool TryGet(string name, out JsonPart part) => TryGetRaw(name, out part) && part.Element.ValueKind != JsonValueKind.Null;

    /// <summary>The items of an array.</summary>
    public IEnumerable<JsonPart> Items()
    {
        Require(JsonValueKind.Array);
        var (path, index) = (Path, 0);
        return Element.EnumerateArray().Select(e => new JsonPart(e, $"{path}[{index++}]"));
    }

    /// <summary>The properties of an object, names first.</summary>
    public IEnumerable<(string Name, JsonPart Value)> Properties()
    {
        Require(JsonValueKind.Object);
        return Enumerate(Element, Path);

        static IEnumerable<(string, JsonPart)> Enumerate(JsonElement element, string path)
        {
            var count = 0;
            foreach (var property in element.EnumerateObject())
            {
                var name = Unicode(() => property.Name, $"{path}: the name of property {count}");
                yield return (name, new JsonPart(property.Value, $"{path}[{Quote(name)}]"));
                count++;
            }
        }
    }

    /// <summary>A text.</summary>
    public string AsText()
    {
        Require(JsonValueKind.String);
        var element = Element;
        return Unicode(() => element.GetString()!, Path);
    }

    /// <summary>A whole number in a range.</summary>
    public int AsInt(int min, int max)
    {
        Require(JsonValueKind.Number);
        return Element.TryGetInt32(out var value) && value >= min && value <= max ? value : throw new InvalidDataException(
            $"{Path} is {Shown(Element)}, and has to be a whole number from {min} to {max}.");
    }

    /// <summary>A finite number.</summary>
    public double AsDouble()
    {
        Require(JsonValueKind.Number);
        return Element.TryGetDouble(out var value) && double.IsFinite(value) ? value : throw new InvalidDataException($"{Path} is {Shown(Element)}, which is not a finite number.");
    }

    /// <summary>True or false.</summary>
    public bool AsBool() => Element.ValueKind is JsonValueKind.True or JsonValueKind.False ? Element.GetBoolean() : throw Wrong("true or false");

    /// <summary>A text that has to be there.</summary>
    public string Text(string name) => Get(name).AsText();

    /// <summary>A text that may be missing or null.</summary>
    public string? TextOrNull(string name) => TryGet(name, out var part) ? part.AsText() : null;

    /// <summary>A switch that may be missing or null.</summary>
    public bool Bool(string name, bool otherwise) => TryGet(name, out var part) ? part.AsBool() : otherwise;

    /// <summary>A text of exactly one char.</summary>
    public char Character(string name) => Text(name) is [var c] ? c : throw new InvalidDataException($"{Child(name)} has to be a single character.");

    /// <summary>Fails because of what this value is.</summary>
    [DoesNotReturn]
    public void Fail(string message) => throw new InvalidDataException($"{Path} {message}");

    /// <summary>Requires a kind of value.</summary>
    public void Require(JsonValueKind kind)
    {
        if (Element.ValueKind != kind)
        {
            throw Wrong($"of type {kind}");
        }
    }

    /// <summary>A text of a file, for a message.</summary>
    public static string Quote(string text) => $"\"{string.Concat(text.Take(40).Select(c => char.IsControl(c) || char.IsSurrogate(c) ? '?' : c))}\"";

    private static string Shown(JsonElement number) => number.GetRawText() is { Length: > 40 } text ? text[..40] + "..." : number.GetRawText();

    // Thrown for an escaped half of a surrogate pair, which is no character.
    private static string Unicode(Func<string> read, string path)
    {
        try
        {
            return read();
        }
        catch (InvalidOperationException exception)
        {
            throw new InvalidDataException($"{path} is not Unicode text: {exception.Message}", exception);
        }
    }

    private InvalidDataException Wrong(string wanted) => new($"{(Path.Length == 0 ? "the file" : Path)} has to be {wanted}, and is of type {Element.ValueKind}.");

    private string Child(string name) => Path.Length == 0 ? name : $"{Path}.{name}";

    private bool TryGetRaw(string name, out JsonPart part)
    {
        Require(JsonValueKind.Object);
        var found = Element.TryGetProperty(name, out var value);
        part = new JsonPart(value, Child(name));
        return found;
    }
}
