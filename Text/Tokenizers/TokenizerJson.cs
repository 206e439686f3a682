using System.Buffers;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace LlmPipeline.Text;

/// <summary>What all kinds of <c>tokenizer.json</c> have in common. Paths in messages are those of the file.</summary>
/// <param name="Root">The whole file.</param>
internal sealed record TokenizerJson(JsonElement Root)
{
    private const int MaxVocabularySize = 1 << 22;

    /// <summary>The "model" object.</summary>
    public JsonElement Model { get; } = Property(Root, "", "model", JsonValueKind.Object);

    /// <summary>Contents of the added tokens, all of them special.</summary>
    public IReadOnlySet<string> SpecialTokens { get; } = ReadAddedTokens(Root).Keys.ToHashSet(StringComparer.Ordinal);

    /// <summary>Writes a file.</summary>
    public static string Write(Action<Utf8JsonWriter> write)
    {
        var buffer = new ArrayBufferWriter<byte>();
        var options = new JsonWriterOptions { Indented = true, NewLine = "\n", Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };
        using (var json = new Utf8JsonWriter(buffer, options))
        {
            json.WriteStartObject();
            json.WriteString("version", "1.0");
            json.WriteNull("truncation");
            json.WriteNull("padding");
            write(json);
            json.WriteEndObject();
        }

        return Encoding.UTF8.GetString(buffer.WrittenSpan) + "\n";
    }

    /// <summary>Writes "added_tokens", all of them special, in the order of their ids.</summary>
    public static void WriteAddedTokens(Utf8JsonWriter json, IReadOnlyDictionary<string, int> tokens) =>
        WriteAddedTokens(json, tokens.OrderBy(t => t.Value).Select(t => (t.Key, t.Value, true)));

    /// <summary>Writes "added_tokens".</summary>
    public static void WriteAddedTokens(Utf8JsonWriter json, IEnumerable<(string Content, int Id, bool Special)> tokens)
    {
        json.WriteStartArray("added_tokens");
        foreach (var (content, id, special) in tokens)
        {
            json.WriteStartObject();
            json.WriteNumber("id", id);
            json.WriteString("content", content);
            json.WriteBoolean("single_word", false);
            json.WriteBoolean("lstrip", false);
            json.WriteBoolean("rstrip", false);
            json.WriteBoolean("normalized", false);
            json.WriteBoolean("special", special);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    /// <summary>Token to id, added tokens included.</summary>
    public Dictionary<string, int> ReadVocabulary()
    {
        var vocabulary = new Dictionary<string, int>(StringComparer.Ordinal);
        foreach (var token in Property(Model, "model", "vocab", JsonValueKind.Object).EnumerateObject())
        {
            var place = $"model.vocab[{BpeVocabulary.Quote(token.Name)}]";
            if (token.Value.ValueKind != JsonValueKind.Number || !token.Value.TryGetInt32(out var id) || id is < 0 or >= MaxVocabularySize)
            {
                throw new InvalidDataException($"{place} is not an id from 0 to {MaxVocabularySize - 1}.");
            }

            if (!vocabulary.TryAdd(token.Name, id))
            {
                throw new InvalidDataException($"{place} comes twice.");
            }
        }

        foreach (var (content, id) in ReadAddedTokens(Root))
        {
            if (!vocabulary.TryAdd(content, id) && vocabulary[content] != id)
            {
                throw new InvalidDataException($"{BpeVocabulary.Quote(content)} has id {id} in added_tokens and {vocabulary[content]} in model.vocab.");
            }
        }

        return vocabulary;
    }

    /// <summary>A property that has to be there.</summary>
    public static JsonElement Property(JsonElement element, string place, string name, JsonValueKind kind)
    {
        var path = place.Length == 0 ? name : $"{place}.{name}";
        if (!element.TryGetProperty(name, out var value))
        {
            throw new InvalidDataException($"{path} is missing.");
        }

        return value.ValueKind == kind ? value : throw new InvalidDataException($"{path} has to be of type {kind}, and is {value.ValueKind}.");
    }

    /// <summary>A text that has to be there.</summary>
    public static string Text(JsonElement element, string place, string name) => Property(element, place, name, JsonValueKind.String).GetString()!;

    /// <summary>Throws when one of the named options, which this project does not have, is in use.</summary>
    public static void RequireAbsent(JsonElement element, string place, params ReadOnlySpan<string> names)
    {
        foreach (var name in names)
        {
            if (element.TryGetProperty(name, out var value) && IsSet(value))
            {
                throw new InvalidDataException($"{(place.Length == 0 ? name : $"{place}.{name}")} is set, which is not supported.");
            }
        }
    }

    private static bool IsSet(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.Null or JsonValueKind.False => false,
        JsonValueKind.String => value.GetString()!.Length > 0,
        JsonValueKind.Number => value.GetDouble() != 0,
        _ => true,
    };

    private static Dictionary<string, int> ReadAddedTokens(JsonElement root)
    {
        var tokens = new Dictionary<string, int>(StringComparer.Ordinal);
        foreach (var token in Property(root, "", "added_tokens", JsonValueKind.Array).EnumerateArray())
        {
            var place = $"added_tokens[{tokens.Count}]";
            if (token.ValueKind != JsonValueKind.Object)
            {
                throw new InvalidDataException($"{place} has to be of type Object, and is {token.ValueKind}.");
            }

            var content = Text(token, place, "content");
            if (!Property(token, place, "id", JsonValueKind.Number).TryGetInt32(out var id) || id is < 0 or >= MaxVocabularySize)
            {
                throw new InvalidDataException($"{place}.id is not an id from 0 to {MaxVocabularySize - 1}.");
            }

            if (!token.TryGetProperty("special", out var special) || special.ValueKind != JsonValueKind.True)
            {
                throw new InvalidDataException($"{place}.special has to be true: tokens that are cut out of the text are not supported.");
            }

            if (content.Length == 0 || !tokens.TryAdd(content, id))
            {
                throw new InvalidDataException($"{place}.content is empty or comes twice.");
            }
        }

        return tokens;
    }
}
