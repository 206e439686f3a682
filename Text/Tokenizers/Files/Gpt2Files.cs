using System.Text.Json;

namespace LlmPipeline.Text;

/// <summary>GPT-2's files: a JSON object from token to id, and a text file with a merge a line, both in its byte alphabet.</summary>
internal static class Gpt2Files
{
    /// <exception cref="InvalidDataException">The message names file and line or path.</exception>
    public static ITokenizer Read(JsonPart vocabulary, string mergesPath)
    {
        var name = Path.GetFileName(mergesPath);
        if (new FileInfo(mergesPath).Length > TokenizerFile.MaxFileBytes)
        {
            throw new InvalidDataException($"{name} is larger than {TokenizerFile.MaxFileBytes} bytes.");
        }

        var merges = new List<(string, string)>();
        var number = 0;
        foreach (var raw in File.ReadLines(mergesPath))
        {
            number++;
            var line = raw.TrimEnd('\r');
            if (line.Length > 0 && !(number == 1 && line.StartsWith("#version", StringComparison.Ordinal)))
            {
                merges.Add(line.Split(' ') is [{ Length: > 0 } left, { Length: > 0 } right] ? (left, right) : throw new InvalidDataException(
                    $"{name}: line {number} is {JsonPart.Quote(line)}, not a pair of tokens with a space between them."));
            }
        }

        try
        {
            return BpeTokenizer.Create(JsonModels.Vocabulary(vocabulary with { Path = "vocab" }), merges);
        }
        catch (InvalidDataException exception)
        {
            throw new InvalidDataException($"vocabulary and {name}: {exception.Message}", exception);
        }
    }

    /// <summary>Whether a <c>tokenizer.json</c> has nothing but what byte-level BPE of this project has.</summary>
    public static bool IsByteLevel(JsonPart root)
    {
        var model = root.Get("model");
        return JsonModels.TypeOf(model) == "BPE" && !root.TryGet("normalizer", out _) && HasPlainSplitting(root)
            && !model.Bool("ignore_merges", false) && !model.Bool("byte_fallback", false) && string.IsNullOrEmpty(model.TextOrNull("end_of_word_suffix"))
            && string.IsNullOrEmpty(model.TextOrNull("continuing_subword_prefix")) && !(model.TryGet("dropout", out var dropout) && dropout.AsDouble() != 0)
            && root.TryGet("added_tokens", out var added) && added.Element.ValueKind == JsonValueKind.Array
            && added.Items().All(t => t.Element.ValueKind == JsonValueKind.Object && t.Bool("special", false)) && added.Items().Any(t => t.TextOrNull("content") == SpecialTokens.EndOfText);
    }

    private static bool HasPlainSplitting(JsonPart root)
    {
        if (!root.TryGet("pre_tokenizer", out var part) || part.Element.ValueKind != JsonValueKind.Object)
        {
            return false;
        }

        if (part.TextOrNull("type") == "ByteLevel")
        {
            return !part.Bool("add_prefix_space", true) && part.Bool("use_regex", true);
        }

        return part.TextOrNull("type") == "Sequence" && part.TryGet("pretokenizers", out var steps) && steps.Items().ToList() is [var split, var bytes]
            && split.TextOrNull("type") == "Split" && split.TextOrNull("behavior") == "Isolated" && !split.Bool("invert", false) && split.Get("pattern").TextOrNull("Regex") is not null
            && bytes.TextOrNull("type") == "ByteLevel" && !bytes.Bool("add_prefix_space", true) && !bytes.Bool("use_regex", true);
    }
}
