using System.Text.Json;

namespace LlmPipeline.Text;

/// <summary>What the conversions from SentencePiece's and llama2.c's files have in common.</summary>
internal static class PieceFiles
{
    /// <summary>A "Prepend" normalizer.</summary>
    public static void WritePrepend(Utf8JsonWriter json, string text)
    {
        json.WriteStartObject();
        json.WriteString("type", "Prepend");
        json.WriteString("prepend", text);
        json.WriteEndObject();
    }

    /// <summary>"decoder": blanks become spaces, byte tokens bytes, and the space that encoding put before the text goes.</summary>
    public static void WriteDecoder(Utf8JsonWriter json, char blank, bool stripsFirst)
    {
        json.WriteStartObject("decoder");
        json.WriteString("type", "Sequence");
        json.WriteStartArray("decoders");
        json.WriteStartObject();
        json.WriteString("type", "Replace");
        json.WriteStartObject("pattern");
        json.WriteString("String", blank.ToString());
        json.WriteEndObject();
        json.WriteString("content", " ");
        json.WriteEndObject();
        KindFiles.WriteType(json, "ByteFallback");
        KindFiles.WriteType(json, "Fuse");
        if (stripsFirst)
        {
            json.WriteStartObject();
            json.WriteString("type", "Strip");
            json.WriteString("content", " ");
            json.WriteNumber("start", 1);
            json.WriteNumber("stop", 0);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }

    /// <summary>
    /// The properties of a "BPE" model that merges the two neighbours whose joined token has the best score: each way to make a token is
    /// a merge, those of better tokens first.
    /// </summary>
    public static void WriteBpe(Utf8JsonWriter json, string[] tokens, float[] scores, bool[] isNormal, string? unknown, bool byteFallback)
    {
        var ids = new Dictionary<string, int>(StringComparer.Ordinal);
        for (var id = 0; id < tokens.Length; id++)
        {
            if (!ids.TryAdd(tokens[id], id))
            {
                throw new InvalidDataException($"token {id} is {JsonPart.Quote(tokens[id])}, as is token {ids[tokens[id]]}.");
            }
        }

        var merges = new List<(int Left, int Right, int Result)>();
        for (var id = 0; id < tokens.Length; id++)
        {
            for (var cut = 1; isNormal[id] && cut < tokens[id].Length; cut++)
            {
                if (ids.TryGetValue(tokens[id][..cut], out var left) && isNormal[left] && ids.TryGetValue(tokens[id][cut..], out var right) && isNormal[right])
                {
                    merges.Add((left, right, id));
                }
            }
        }

        var ordered = merges.OrderByDescending(m => scores[m.Result]).ThenBy(m => m.Result).ThenBy(m => m.Left);
        json.WriteNull("dropout");
        if (unknown is null)
        {
            json.WriteNull("unk_token");
        }
        else
        {
            json.WriteString("unk_token", unknown);
        }

        json.WriteNull("continuing_subword_prefix");
        json.WriteNull("end_of_word_suffix");
        json.WriteBoolean("fuse_unk", true);
        json.WriteBoolean("byte_fallback", byteFallback);
        json.WriteBoolean("ignore_merges", false);
        KindFiles.WriteVocabulary(json, tokens);
        KindFiles.WriteMerges(json, ordered.Select(m => (tokens[m.Left], tokens[m.Right])));
    }
}
