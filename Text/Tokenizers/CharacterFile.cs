using System.Text;
using System.Text.Json;

namespace LlmPipeline.Text;

/// <summary>A character tokenizer as a Hugging Face <c>tokenizer.json</c>: a word-level model whose words are single characters.</summary>
internal static class CharacterFile
{
    private const string AnyCharacter = "[\\s\\S]";

    /// <summary>Special tokens and their ids.</summary>
    internal static readonly Dictionary<string, int> Special = new() { [SpecialTokens.EndOfText] = 0, [SpecialTokens.Unknown] = CharacterTokenizer.UnknownId };

    public static string Write(IReadOnlyList<Rune> characters) => TokenizerJson.Write(json =>
    {
        TokenizerJson.WriteAddedTokens(json, Special);
        json.WriteNull("normalizer");
        json.WriteStartObject("pre_tokenizer");
        json.WriteString("type", "Split");
        json.WriteStartObject("pattern");
        json.WriteString("Regex", AnyCharacter);
        json.WriteEndObject();
        json.WriteString("behavior", "Isolated");
        json.WriteBoolean("invert", false);
        json.WriteEndObject();
        json.WriteNull("post_processor");
        json.WriteStartObject("decoder");
        json.WriteString("type", "Fuse");
        json.WriteEndObject();
        json.WriteStartObject("model");
        json.WriteString("type", "WordLevel");
        json.WriteStartObject("vocab");
        foreach (var (token, id) in Special)
        {
            json.WriteNumber(token, id);
        }

        for (var i = 0; i < characters.Count; i++)
        {
            json.WriteNumber(characters[i].ToString(), CharacterTokenizer.FirstCharacter + i);
        }

        json.WriteEndObject();
        json.WriteString("unk_token", SpecialTokens.Unknown);
        json.WriteEndObject();
    });

    /// <summary>Whether a <c>tokenizer.json</c> is one of these.</summary>
    public static bool Is(JsonPart root) =>
        JsonModels.TypeOf(root.Get("model")) == "WordLevel" && !root.TryGet("normalizer", out _) && root.TryGet("pre_tokenizer", out var part) && part.TextOrNull("type") == "Split"
        && part.Get("pattern").TextOrNull("Regex") == AnyCharacter && root.TryGet("added_tokens", out var added) && added.Items().Select(t => t.TextOrNull("content") ?? "").ToHashSet().SetEquals(Special.Keys);

    /// <exception cref="InvalidDataException">The message says where.</exception>
    public static CharacterTokenizer Read(TokenizerJson file, string json)
    {
        var splitter = TokenizerJson.Property(file.Root, "", "pre_tokenizer", JsonValueKind.Object);
        if (TokenizerJson.Text(splitter, "pre_tokenizer", "type") != "Split"
            || TokenizerJson.Text(TokenizerJson.Property(splitter, "pre_tokenizer", "pattern", JsonValueKind.Object), "pre_tokenizer.pattern", "Regex") != AnyCharacter)
        {
            throw new InvalidDataException($"pre_tokenizer has to be Split with the pattern {AnyCharacter}: only words of one character are supported.");
        }

        if (!file.SpecialTokens.SetEquals(Special.Keys))
        {
            throw new InvalidDataException($"added_tokens have to be {string.Join(" and ", Special.Keys)}.");
        }

        var characters = new List<Rune>();
        foreach (var (token, id) in file.ReadVocabulary().OrderBy(t => t.Value))
        {
            var place = $"model.vocab[{BpeVocabulary.Quote(token)}]";
            if (Special.TryGetValue(token, out var specialId))
            {
                Require(id == specialId, $"{place} is {id}, and has to be {specialId}.");
                continue;
            }

            Require(Rune.TryGetRuneAt(token, 0, out var character) && character.Utf16SequenceLength == token.Length, $"{place} is not a single character.");
            Require(id == CharacterTokenizer.FirstCharacter + characters.Count, $"{place} is {id}: ids have to be used once each, without gaps.");
            Require(characters is [] || character > characters[^1], $"{place} is {id}: ids have to follow the order of the characters.");
            characters.Add(character);
        }

        return new CharacterTokenizer(characters, json);
    }

    private static void Require(bool condition, string message)
    {
        if (!condition)
        {
            throw new InvalidDataException(message);
        }
    }
}
