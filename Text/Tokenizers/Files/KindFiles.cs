using System.Text.Json;

namespace LlmPipeline.Text;

/// <summary>Writes the kinds of this project as <c>tokenizer.json</c>, in a form that other implementations read too.</summary>
internal static class KindFiles
{
    /// <summary>A model whose words are tokens.</summary>
    /// <param name="splitter">Cuts text into them.</param>
    /// <param name="special">Special tokens; <see cref="SpecialTokens.Unknown"/> is one.</param>
    /// <param name="words">Their ids follow those of the special tokens.</param>
    public static string Words(TextSplitter splitter, IReadOnlyDictionary<string, int> special, IEnumerable<string> words) => TokenizerJson.Write(json =>
    {
        Begin(json, special, splitter);
        json.WriteStartObject("decoder");
        json.WriteString("type", "Fuse");
        json.WriteEndObject();
        json.WriteStartObject("model");
        json.WriteString("type", "WordLevel");
        WriteVocabulary(json, special.Keys.Concat(words));
        json.WriteString("unk_token", SpecialTokens.Unknown);
        json.WriteEndObject();
    });

    /// <summary>Word pieces; continuing ones are written with their prefix.</summary>
    public static string WordPiece(IReadOnlyDictionary<string, int> special, IEnumerable<string> pieces) => TokenizerJson.Write(json =>
    {
        Begin(json, special, TextSplitter.Word);
        json.WriteStartObject("decoder");
        json.WriteString("type", "Sequence");
        json.WriteStartArray("decoders");
        WriteReplace(json, "^" + WordPieceTrainer.Prefix, "");
        WriteType(json, "Fuse");
        json.WriteEndArray();
        json.WriteEndObject();
        json.WriteStartObject("model");
        json.WriteString("type", "WordPiece");
        json.WriteString("unk_token", SpecialTokens.WordPieceUnknown);
        json.WriteString("continuing_subword_prefix", WordPieceTrainer.Prefix);
        json.WriteNumber("max_input_chars_per_word", 100);
        WriteVocabulary(json, special.Keys.Concat(pieces));
        json.WriteEndObject();
    });

    /// <summary>Byte pairs over characters with an end-of-word mark.</summary>
    public static string ClassicBpe(IReadOnlyDictionary<string, int> special, IEnumerable<string> tokens, IEnumerable<(string Left, string Right)> merges) => TokenizerJson.Write(json =>
    {
        Begin(json, special, TextSplitter.Blank);
        json.WriteStartObject("decoder");
        json.WriteString("type", "Sequence");
        json.WriteStartArray("decoders");
        json.WriteStartObject();
        json.WriteString("type", "BPEDecoder");
        json.WriteString("suffix", Text.ClassicBpe.EndOfWord);
        json.WriteEndObject();
        WriteType(json, "Fuse");
        WriteReplace(json, JsonDecoders.TightLineFeeds, "\n");
        json.WriteEndArray();
        json.WriteEndObject();
        json.WriteStartObject("model");
        json.WriteString("type", "BPE");
        json.WriteNull("dropout");
        json.WriteString("unk_token", SpecialTokens.Unknown);
        json.WriteNull("continuing_subword_prefix");
        json.WriteString("end_of_word_suffix", Text.ClassicBpe.EndOfWord);
        json.WriteBoolean("fuse_unk", false);
        json.WriteBoolean("byte_fallback", false);
        json.WriteBoolean("ignore_merges", false);
        WriteVocabulary(json, special.Keys.Concat(tokens));
        WriteMerges(json, merges);
        json.WriteEndObject();
    });

    /// <summary>"vocab": tokens with the ids 0, 1, ...</summary>
    public static void WriteVocabulary(Utf8JsonWriter json, IEnumerable<string> tokens)
    {
        json.WriteStartObject("vocab");
        var id = 0;
        foreach (var token in tokens)
        {
            json.WriteNumber(token, id++);
        }

        json.WriteEndObject();
    }

    /// <summary>"merges", as pairs: a token may hold a space.</summary>
    public static void WriteMerges(Utf8JsonWriter json, IEnumerable<(string Left, string Right)> merges)
    {
        json.WriteStartArray("merges");
        foreach (var (left, right) in merges)
        {
            json.WriteStartArray();
            json.WriteStringValue(left);
            json.WriteStringValue(right);
            json.WriteEndArray();
        }

        json.WriteEndArray();
    }

    /// <summary>A part that is only a type.</summary>
    public static void WriteType(Utf8JsonWriter json, string type)
    {
        json.WriteStartObject();
        json.WriteString("type", type);
        json.WriteEndObject();
    }

    /// <summary>"Replace" with a regular expression.</summary>
    public static void WriteReplace(Utf8JsonWriter json, string pattern, string content)
    {
        json.WriteStartObject();
        json.WriteString("type", "Replace");
        json.WriteStartObject("pattern");
        json.WriteString("Regex", pattern);
        json.WriteEndObject();
        json.WriteString("content", content);
        json.WriteEndObject();
    }

    private static void Begin(Utf8JsonWriter json, IReadOnlyDictionary<string, int> special, TextSplitter splitter)
    {
        TokenizerJson.WriteAddedTokens(json, special);
        json.WriteNull("normalizer");
        json.WriteStartObject("pre_tokenizer");
        json.WriteString("type", "Split");
        json.WriteStartObject("pattern");
        json.WriteString("Regex", splitter.Pattern);
        json.WriteEndObject();
        json.WriteString("behavior", splitter.Behavior.ToString());
        json.WriteBoolean("invert", splitter.Invert);
        json.WriteEndObject();
        json.WriteNull("post_processor");
    }
}
