using System.Text.Json;

namespace LlmPipeline.Text;

/// <summary>Byte-level BPE as a Hugging Face <c>tokenizer.json</c>.</summary>
internal static class BpeFile
{
    public static string Write(BpeVocabulary vocabulary) => TokenizerJson.Write(json =>
    {
        TokenizerJson.WriteAddedTokens(json, vocabulary.SpecialTokens);
        json.WriteNull("normalizer");
        WriteByteLevel(json, "pre_tokenizer", addPrefixSpace: false);
        json.WriteNull("post_processor");
        WriteByteLevel(json, "decoder", addPrefixSpace: true);
        json.WriteStartObject("model");
        json.WriteString("type", "BPE");
        json.WriteNull("dropout");
        json.WriteNull("unk_token");
        json.WriteNull("continuing_subword_prefix");
        json.WriteNull("end_of_word_suffix");
        json.WriteBoolean("fuse_unk", false);
        json.WriteBoolean("byte_fallback", false);
        json.WriteBoolean("ignore_merges", false);
        json.WriteStartObject("vocab");
        var names = vocabulary.SpecialTokens.ToDictionary(s => s.Value, s => s.Key);
        for (var id = 0; id < vocabulary.Tokens.Length; id++)
        {
            json.WriteNumber(names.TryGetValue(id, out var name) ? name : ByteAlphabet.Write(vocabulary.Tokens[id]), id);
        }

        json.WriteEndObject();
        json.WriteStartArray("merges");
        foreach (var merge in vocabulary.Merges)
        {
            json.WriteStringValue($"{ByteAlphabet.Write(vocabulary.Tokens[merge.Left])} {ByteAlphabet.Write(vocabulary.Tokens[merge.Right])}");
        }

        json.WriteEndArray();
        json.WriteEndObject();
    });

    /// <exception cref="InvalidDataException">The message says where.</exception>
    public static BpeTokenizer Read(TokenizerJson file, string json)
    {
        RequireByteLevel(file);
        var model = file.Model;
        TokenizerJson.RequireAbsent(model, "model", "dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges");
        var vocabulary = file.ReadVocabulary();
        return new BpeTokenizer(BpeVocabulary.Create(vocabulary, ReadMerges(model), file.SpecialTokens), json);
    }

    private static void WriteByteLevel(Utf8JsonWriter json, string name, bool addPrefixSpace)
    {
        json.WriteStartObject(name);
        json.WriteString("type", "ByteLevel");
        json.WriteBoolean("add_prefix_space", addPrefixSpace);
        json.WriteBoolean("trim_offsets", true);
        json.WriteBoolean("use_regex", true);
        json.WriteEndObject();
    }

    private static void RequireByteLevel(TokenizerJson file)
    {
        var splitter = TokenizerJson.Property(file.Root, "", "pre_tokenizer", JsonValueKind.Object);
        if (TokenizerJson.Text(splitter, "pre_tokenizer", "type") != "ByteLevel"
            || !splitter.TryGetProperty("add_prefix_space", out var prefix) || prefix.ValueKind != JsonValueKind.False
            || splitter.TryGetProperty("use_regex", out var regex) && regex.ValueKind != JsonValueKind.True)
        {
            throw new InvalidDataException("pre_tokenizer has to be ByteLevel with add_prefix_space false and use_regex true.");
        }
    }

    private static List<(string Left, string Right)> ReadMerges(JsonElement model)
    {
        var merges = new List<(string, string)>();
        foreach (var merge in TokenizerJson.Property(model, "model", "merges", JsonValueKind.Array).EnumerateArray())
        {
            // Both forms are in use: "a b" and ["a", "b"].
            string[] parts = merge.ValueKind switch
            {
                JsonValueKind.String => merge.GetString()!.Split(' '),
                JsonValueKind.Array => [.. merge.EnumerateArray().Select(p => p.ValueKind == JsonValueKind.String ? p.GetString()! : "")],
                _ => [],
            };
            merges.Add(parts is [{ Length: > 0 }, { Length: > 0 }] ? (parts[0], parts[1]) : throw new InvalidDataException(
                $"model.merges[{merges.Count}] is not a pair of tokens."));
        }

        return merges;
    }
}
