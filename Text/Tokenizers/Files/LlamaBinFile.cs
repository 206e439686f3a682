using System.Buffers.Binary;
using System.Text;

namespace LlmPipeline.Text;

/// <summary>
/// llama2.c's <c>tokenizer.bin</c> (karpathy/llama2.c, tokenizer.py): the length of the longest token, then score, length and bytes of each
/// token, ids 0 to 2 being unknown, begin and end, the 256 bytes behind them. Merging is by score, as in SentencePiece's BPE.
/// </summary>
internal static class LlamaBinFile
{
    private const int MaxTokenBytes = 1 << 16;
    private const char Blank = '\u2581';

    /// <summary>Whether a file begins like one: a small number, a score, a length that fits it.</summary>
    public static bool LooksLike(ReadOnlySpan<byte> file) =>
        file.Length >= 12 && BinaryPrimitives.ReadInt32LittleEndian(file) is > 0 and <= MaxTokenBytes and var longest
        && float.IsFinite(BinaryPrimitives.ReadSingleLittleEndian(file[4..])) && BinaryPrimitives.ReadInt32LittleEndian(file[8..]) is > 0 and var length && length <= longest;

    /// <exception cref="InvalidDataException">The message says at which byte.</exception>
    public static ITokenizer Read(ReadOnlySpan<byte> file)
    {
        var (tokens, scores) = (new List<string>(), new List<float>());
        var longest = BinaryPrimitives.ReadInt32LittleEndian(file);
        for (var at = 4; at < file.Length;)
        {
            if (file.Length - at < 8 || BinaryPrimitives.ReadInt32LittleEndian(file[(at + 4)..]) is var length && (length <= 0 || length > longest || length > file.Length - at - 8))
            {
                throw new InvalidDataException($"byte {at}: token {tokens.Count} of the tokenizer.bin is cut off or longer than the {longest} bytes that the file names.");
            }

            var score = BinaryPrimitives.ReadSingleLittleEndian(file[at..]);
            var bytes = file.Slice(at + 8, length);
            if (!float.IsFinite(score) || !System.Text.Unicode.Utf8.IsValid(bytes))
            {
                throw new InvalidDataException($"byte {at}: token {tokens.Count} of the tokenizer.bin is not UTF-8, or its score is not a number.");
            }

            tokens.Add(Encoding.UTF8.GetString(bytes).Replace(' ', Blank));
            scores.Add(score);
            at += 8 + length;
        }

        if (tokens.Count < 3 + 256 || !Enumerable.Range(0, 256).All(b => tokens[3 + b] == ByteTokens.Write(b)))
        {
            throw new InvalidDataException($"the tokenizer.bin has {tokens.Count} tokens, and its ids 3 to 258 are not the 256 bytes.");
        }

        (tokens[0], tokens[1], tokens[2]) = ("<unk>", "<s>", "</s>");
        return TokenizerFile.Parse(Write([.. tokens], [.. scores]));
    }

    private static string Write(string[] tokens, float[] scores) => TokenizerJson.Write(json =>
    {
        TokenizerJson.WriteAddedTokens(json, tokens.Take(3).Select((t, id) => (t, id, true)));
        json.WriteStartObject("normalizer");
        json.WriteString("type", "Sequence");
        json.WriteStartArray("normalizers");
        PieceFiles.WritePrepend(json, Blank.ToString());
        KindFiles.WriteReplace(json, " ", Blank.ToString());
        json.WriteEndArray();
        json.WriteEndObject();
        json.WriteNull("pre_tokenizer");
        json.WriteNull("post_processor");
        PieceFiles.WriteDecoder(json, Blank, stripsFirst: true);
        json.WriteStartObject("model");
        json.WriteString("type", "BPE");
        PieceFiles.WriteBpe(json, tokens, scores, [.. tokens.Select((_, id) => id >= 3 + 256)], unknown: "<unk>", byteFallback: true);
        json.WriteEndObject();
    });
}
