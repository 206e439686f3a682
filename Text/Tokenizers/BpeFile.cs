using System.Text.Json;

namespace LlmPipeline.Text;

/// <summary>Byte-level BPE as a Hugging Face <c>tokenizer.json</c>.</summary>
internal static class BpeFile
{
    public static string Write(BpeVocabulary vocabulary) => TokenizerJson.Write(json =>
    {
        TokenizerJson.WriteAddedTokens(json, vocabulary.SpecialTokens);
        json.WriteNull("normalizer");
        WriteSplitter(json, vocabulary.Splitter);
        json.WriteNull("post_processor");
        json.WriteStartObject("decoder");
        WriteByteLevel(json, addPrefixSpace: true, useRegex: true);
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
        var splitter = ReadSplitter(file);
        var model = file.Model;
        TokenizerJson.RequireAbsent(model, "model", "dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges");
        var vocabulary = file.ReadVocabulary();
        return new BpeTokenizer(BpeVocabulary.Create(vocabulary, ReadMerges(model), file.SpecialTokens, splitter), json);
    }

    // GPT-2's pattern is the one that "ByteLevel" has built in; others come before it.
    private static void WriteSplitter(Utf8JsonWriter json, IWordSplitter splitter)
    {
        json.WriteStartObject("pre_tokenizer");
        if (splitter == WordSplitter.Gpt2)
        {
            WriteByteLevel(json, addPrefixSpace: false, useRegex: true);
            return;
        }

        json.WriteString("type", "Sequence");
        json.WriteStartArray("pretokenizers");
        json.WriteStartObject();
        json.WriteString("type", "Split");
        json.WriteStartObject("pattern");
        json.WriteString("Regex", splitter.Pattern);
        json.WriteEndObject();
        json.WriteString("behavior", "Isolated");
        json.WriteBoolean("invert", false);
        json.WriteEndObject();
        json.WriteStartObject();
        WriteByteLevel(json, addPrefixSpace: false, useRegex: false);
        json.WriteEndArray();
        json.WriteEndObject();
    }

    // Into an object that is begun, and ends it.
    private static void WriteByteLevel(Utf8JsonWriter json, bool addPrefixSpace, bool useRegex)
    {
        json.WriteString("type", "ByteLevel");
        json.WriteBoolean("add_prefix_space", addPrefixSpace);
        json.WriteBoolean("trim_offsets", true);
        json.WriteBoolean("use_regex", useRegex);
        json.WriteEndObject();
    }

    private static IWordSplitter ReadSplitter(TokenizerJson file)
    {
        var splitter = TokenizerJson.Property(file.Root, "", "pre_tokenizer", JsonValueKind.Object);
        switch (TokenizerJson.Text(splitter, "pre_tokenizer", "type"))
        {
            case "ByteLevel" when IsByteLevel(splitter, useRegex: true):
                return WordSplitter.Gpt2;
            case "Sequence":
                const string Place = "pre_tokenizer.pretokenizers";
                var parts = TokenizerJson.Property(splitter, "pre_tokenizer", "pretokenizers", JsonValueKind.Array);
                if (parts.GetArrayLength() == 2 && parts[0].ValueKind == JsonValueKind.Object && IsByteLevel(parts[1], useRegex: false)
                    && TokenizerJson.Text(parts[0], $"{Place}[0]", "type") == "Split" && TokenizerJson.Text(parts[0], $"{Place}[0]", "behavior") == "Isolated"
                    && !(parts[0].TryGetProperty("invert", out var invert) && invert.ValueKind != JsonValueKind.False))
                {
                    var pattern = TokenizerJson.Property(parts[0], $"{Place}[0]", "pattern", JsonValueKind.Object);
                    return WordSplitter.Create(TokenizerJson.Text(pattern, $"{Place}[0].pattern", "Regex"));
                }

                break;
        }

        throw new InvalidDataException(
            "pre_tokenizer has to be ByteLevel with add_prefix_space false and use_regex true, or a Sequence of Split (Regex, Isolated) and ByteLevel with use_regex false.");
    }

    private static bool IsByteLevel(JsonElement part, bool useRegex) =>
        part.ValueKind == JsonValueKind.Object && part.TryGetProperty("type", out var type) && type.ValueKind == JsonValueKind.String && type.ValueEquals("ByteLevel")
        && part.TryGetProperty("add_prefix_space", out var prefix) && prefix.ValueKind == JsonValueKind.False
        && (part.TryGetProperty("use_regex", out var regex) ? regex.ValueKind == (useRegex ? JsonValueKind.True : JsonValueKind.False) : useRegex);

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
