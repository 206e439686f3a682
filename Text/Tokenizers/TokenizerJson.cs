using System.Security.Cryptography;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace LlmPipeline.Text;

/// <summary>Hugging Face's <c>tokenizer.json</c>, as far as this project writes it.</summary>
internal static class TokenizerJson
{
    private static readonly JsonSerializerOptions Options = new() { WriteIndented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, NewLine = "\n" };

    public static (string Json, string Hash) Write(BpeTokenizer tokenizer)
    {
        var vocabulary = new JsonObject();
        for (var id = 0; id < tokenizer.VocabularySize; id++)
        {
            vocabulary.Add(tokenizer.TextOf(id), id);
        }

        var merges = new JsonArray([.. tokenizer.Merges.Select(m => (JsonNode)new JsonArray(tokenizer.TextOf(m.Left), tokenizer.TextOf(m.Right)))]);
        return Finish(
            [(tokenizer.EndOfTextId, tokenizer.TextOf(tokenizer.EndOfTextId))],
            new JsonObject { ["type"] = "ByteLevel", ["add_prefix_space"] = false, ["trim_offsets"] = true, ["use_regex"] = true },
            new JsonObject { ["type"] = "ByteLevel", ["add_prefix_space"] = true, ["trim_offsets"] = true, ["use_regex"] = true },
            new JsonObject
            {
                ["type"] = "BPE",
                ["dropout"] = null,
                ["unk_token"] = null,
                ["continuing_subword_prefix"] = null,
                ["end_of_word_suffix"] = null,
                ["fuse_unk"] = false,
                ["byte_fallback"] = false,
                ["ignore_merges"] = false,
                ["vocab"] = vocabulary,
                ["merges"] = merges,
            });
    }

    public static (string Json, string Hash) Write(CharacterTokenizer tokenizer)
    {
        var vocabulary = new JsonObject { [SpecialTokens.EndOfText] = tokenizer.EndOfTextId, [SpecialTokens.Unknown] = CharacterTokenizer.UnknownId };
        foreach (var character in tokenizer.Characters)
        {
            vocabulary.Add(character.ToString(), vocabulary.Count);
        }

        return Finish(
            [(tokenizer.EndOfTextId, SpecialTokens.EndOfText), (CharacterTokenizer.UnknownId, SpecialTokens.Unknown)],
            new JsonObject { ["type"] = "Split", ["pattern"] = new JsonObject { ["Regex"] = "[\\s\\S]" }, ["behavior"] = "Isolated", ["invert"] = false },
            new JsonObject { ["type"] = "Fuse" },
            new JsonObject { ["type"] = "WordLevel", ["vocab"] = vocabulary, ["unk_token"] = SpecialTokens.Unknown });
    }

    /// <exception cref="InvalidDataException">The text is not such a file; the message says where.</exception>
    public static ITokenizer Read(string json)
    {
        try
        {
            using var document = JsonDocument.Parse(json, new JsonDocumentOptions { MaxDepth = 16 });
            var model = Required(document.RootElement, "model", JsonValueKind.Object, "");
            var vocabulary = Vocabulary(Required(model, "vocab", JsonValueKind.Object, "model."));
            return Required(model, "type", JsonValueKind.String, "model.").GetString() switch
            {
                "BPE" => ReadBpe(model, vocabulary),
                "WordLevel" => ReadCharacters(vocabulary),
                var type => throw new InvalidDataException($"model.type is '{type}'; 'BPE' and 'WordLevel' are known."),
            };
        }
        catch (JsonException exception)
        {
            throw new InvalidDataException($"The tokenizer file is not JSON: {exception.Message}", exception);
        }
    }

    private static BpeTokenizer ReadBpe(JsonElement model, string[] vocabulary)
    {
        var endOfText = Array.IndexOf(vocabulary, SpecialTokens.EndOfText);
        if (endOfText < 0)
        {
            throw new InvalidDataException($"model.vocab has no '{SpecialTokens.EndOfText}'.");
        }

        var ids = new Dictionary<string, int>(StringComparer.Ordinal);
        var tokens = new byte[vocabulary.Length][];
        for (var id = 0; id < tokens.Length; id++)
        {
            ids[vocabulary[id]] = id;
            tokens[id] = id == endOfText ? [] : ByteAlphabet.TryToBytes(vocabulary[id])
                ?? throw new InvalidDataException($"model.vocab: token {id} has a character that stands for no byte.");
        }

        var merges = new List<(int, int)>();
        foreach (var merge in Required(model, "merges", JsonValueKind.Array, "model.").EnumerateArray())
        {
            var parts = merge.ValueKind switch
            {
                JsonValueKind.String => merge.GetString()!.Split(' '),
                JsonValueKind.Array when merge.EnumerateArray().All(p => p.ValueKind == JsonValueKind.String) => [.. merge.EnumerateArray().Select(p => p.GetString()!)],
                _ => [],
            };
            if (parts.Length != 2 || !ids.TryGetValue(parts[0], out var left) || !ids.TryGetValue(parts[1], out var right))
            {
                throw new InvalidDataException($"model.merges[{merges.Count}] is not a pair of tokens of the vocabulary.");
            }

            merges.Add((left, right));
        }

        return new BpeTokenizer(tokens, merges, endOfText);
    }

    private static CharacterTokenizer ReadCharacters(string[] vocabulary)
    {
        if (vocabulary is not [SpecialTokens.EndOfText, SpecialTokens.Unknown, ..])
        {
            throw new InvalidDataException($"model.vocab does not begin with '{SpecialTokens.EndOfText}' and '{SpecialTokens.Unknown}'.");
        }

        var characters = new List<Rune>();
        foreach (var entry in vocabulary.Skip(2))
        {
            if (Rune.DecodeFromUtf16(entry, out var rune, out var width) != System.Buffers.OperationStatus.Done || width != entry.Length || (characters.Count > 0 && characters[^1] >= rune))
            {
                throw new InvalidDataException($"model.vocab: entry {characters.Count + 2} is not one character, in order of code points.");
            }

            characters.Add(rune);
        }

        return characters.Count > 0 ? CharacterTokenizer.Create(characters) : throw new InvalidDataException("model.vocab has no characters.");
    }

    /// <summary>Tokens by id; ids are 0 to the number of entries, each once.</summary>
    private static string[] Vocabulary(JsonElement entries)
    {
        var tokens = new string[entries.GetPropertyCount()];
        foreach (var entry in entries.EnumerateObject())
        {
            if (entry.Value.ValueKind != JsonValueKind.Number || !entry.Value.TryGetInt32(out var id) || (uint)id >= (uint)tokens.Length || tokens[id] is not null)
            {
                throw new InvalidDataException($"model.vocab: the id of '{entry.Name}' is not one of 0 to {tokens.Length - 1}, each once.");
            }

            tokens[id] = entry.Name;
        }

        return tokens;
    }

    private static JsonElement Required(JsonElement parent, string name, JsonValueKind kind, string path) =>
        parent.ValueKind == JsonValueKind.Object && parent.TryGetProperty(name, out var value) && value.ValueKind == kind
            ? value
            : throw new InvalidDataException($"The tokenizer file has no {path}{name} of type {kind}.");

    private static (string Json, string Hash) Finish((int Id, string Content)[] specials, JsonObject preTokenizer, JsonObject decoder, JsonObject model)
    {
        var file = new JsonObject
        {
            ["version"] = "1.0",
            ["truncation"] = null,
            ["padding"] = null,
            ["added_tokens"] = new JsonArray([.. specials.Select(s => (JsonNode)new JsonObject
            {
                ["id"] = s.Id,
                ["content"] = s.Content,
                ["single_word"] = false,
                ["lstrip"] = false,
                ["rstrip"] = false,
                ["normalized"] = false,
                ["special"] = true,
            })]),
            ["normalizer"] = null,
            ["pre_tokenizer"] = preTokenizer,
            ["post_processor"] = null,
            ["decoder"] = decoder,
            ["model"] = model,
        };
        var json = file.ToJsonString(Options);
        return (json, Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(json))));
    }
}
