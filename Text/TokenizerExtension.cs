using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace LlmPipeline.Text;

/// <summary>Tokenizers with further ids behind those of another one.</summary>
public static class TokenizerExtension
{
    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true, NewLine = "\n", Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>Adds tokens: wherever text has one of them, it is this one id. The ids of the tokenizer stay.</summary>
    /// <param name="tokenizer">The tokenizer.</param>
    /// <param name="tokens">Not in its vocabulary.</param>
    /// <exception cref="InvalidDataException">A token is empty, comes twice, or is one id already.</exception>
    public static ITokenizer Extend(this ITokenizer tokenizer, IReadOnlyList<string> tokens)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        ArgumentNullException.ThrowIfNull(tokens);
        var json = (JsonObject)JsonNode.Parse(tokenizer.ToJson())!;
        if (json["added_tokens"] is not JsonArray added)
        {
            json["added_tokens"] = added = [];
        }

        for (var i = 0; i < tokens.Count; i++)
        {
            if (string.IsNullOrEmpty(tokens[i]) || tokens.Take(i).Contains(tokens[i]) || tokenizer.SpecialIds.ContainsKey(tokens[i]) || IsOneId(tokenizer, tokens[i]))
            {
                throw new InvalidDataException($"The new token {JsonPart.Quote(tokens[i] ?? "")} is empty, comes twice, or is one id of the tokenizer already. Leave it out.");
            }

            added.Add(new JsonObject
            {
                ["id"] = tokenizer.VocabularySize + i,
                ["content"] = tokens[i],
                ["single_word"] = false,
                ["lstrip"] = false,
                ["rstrip"] = false,
                ["normalized"] = false,
                ["special"] = false,
            });
        }

        return TokenizerFile.Parse(json.ToJsonString(Indented) + "\n");
    }

    /// <summary>Whether a tokenizer has all ids of another one, with the same meaning: it is that one, or one with ids behind them.</summary>
    public static bool Extends(this ITokenizer tokenizer, ITokenizer other)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        ArgumentNullException.ThrowIfNull(other);
        if (tokenizer.Hash == other.Hash)
        {
            return true;
        }

        if (tokenizer.VocabularySize < other.VocabularySize || tokenizer.EndOfTextId != other.EndOfTextId || tokenizer.UnknownId != other.UnknownId
            || other.SpecialIds.Any(s => !tokenizer.SpecialIds.TryGetValue(s.Key, out var id) || id != s.Value))
        {
            return false;
        }

        for (var id = 0; id < other.VocabularySize; id++)
        {
            if (!tokenizer.BytesOf(id).SequenceEqual(other.BytesOf(id)))
            {
                return false;
            }
        }

        return true;
    }

    private static bool IsOneId(ITokenizer tokenizer, string token)
    {
        var ids = tokenizer.Encode(token);
        return ids.Length == 1 && ids[0] != tokenizer.UnknownId;
    }
}
