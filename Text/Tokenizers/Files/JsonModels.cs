using System.Text.Json;

namespace LlmPipeline.Text;

/// <summary>A model that was read, and its vocabulary.</summary>
/// <param name="Kind">See <see cref="ITokenizer.Kind"/>.</param>
/// <param name="Model">The model.</param>
/// <param name="Tokens">Token by id; null where an id is not used.</param>
/// <param name="Unknown">Token of unknown text; null where there is none.</param>
internal sealed record ReadModel(string Kind, TokenModel Model, string?[] Tokens, string? Unknown);

/// <summary>Reads "model".</summary>
internal static class JsonModels
{
    private delegate Dictionary<string, int> Matchable(Dictionary<string, int> vocabulary);

    /// <summary>Largest vocabulary that is read.</summary>
    public const int MaxVocabularySize = 1 << 22;

    /// <param name="part">The model.</param>
    /// <param name="special">Special tokens, which text cannot make.</param>
    /// <param name="ends">Tokens that may end a text, which it cannot make either.</param>
    public static ReadModel Read(JsonPart part, IReadOnlySet<string> special, IReadOnlyCollection<string> ends) => TypeOf(part) switch
    {
        "BPE" => Pairs(part, v => Without(v, special, ends)),
        "WordPiece" => WordPiece(part, v => Without(v, special, ends)),
        "WordLevel" => WordLevel(part, v => Without(v, special, ends)),
        "Unigram" => Unigram(part, v => Without(v, special, ends)),
        var type => throw new InvalidDataException($"{part.Path}.type is {JsonPart.Quote(type)}: only BPE, WordPiece, WordLevel and Unigram are supported."),
    };

    /// <summary>The type of a model; old files do not name it.</summary>
    public static string TypeOf(JsonPart part) => part.TextOrNull("type") ?? (part.TryGet("merges", out _) ? "BPE" : part.Text("type"));

    /// <summary>Token to id.</summary>
    public static Dictionary<string, int> Vocabulary(JsonPart part)
    {
        var vocabulary = new Dictionary<string, int>(StringComparer.Ordinal);
        foreach (var (token, id) in part.Properties())
        {
            if (!vocabulary.TryAdd(token, id.AsInt(0, MaxVocabularySize - 1)))
            {
                id.Fail("comes twice.");
            }
        }

        return vocabulary.Count > 0 ? vocabulary : throw new InvalidDataException($"{part.Path} is empty.");
    }

    /// <summary>Token by id.</summary>
    /// <param name="vocabulary">Token to id.</param>
    /// <param name="path">What a message calls the vocabulary.</param>
    public static string?[] ByIds(IReadOnlyDictionary<string, int> vocabulary, string path)
    {
        // Ids may have gaps, but not so large that the gaps are most of them.
        var largest = vocabulary.MaxBy(v => v.Value);
        if (largest.Value >= (4L * vocabulary.Count) + 1024)
        {
            throw new InvalidDataException($"{path}[{JsonPart.Quote(largest.Key)}] is {largest.Value}, far beyond the {vocabulary.Count} tokens: ids have to be 0 to about their number.");
        }

        var tokens = new string?[largest.Value + 1];
        foreach (var (token, id) in vocabulary)
        {
            tokens[id] = tokens[id] is null ? token : throw new InvalidDataException(
                $"{path}[{JsonPart.Quote(token)}] is {id}, the id of {JsonPart.Quote(tokens[id]!)}: the ids have to be used once each.");
        }

        return tokens;
    }

    private static ReadModel WordLevel(JsonPart part, Matchable matchable)
    {
        var vocabulary = Vocabulary(part.Get("vocab"));
        var unknown = part.Text("unk_token");
        return new ReadModel("word", new WordLevelModel(matchable(vocabulary), UnknownId(part, vocabulary, unknown)), ByIds(vocabulary, "model.vocab"), unknown);
    }

    private static ReadModel WordPiece(JsonPart part, Matchable matchable)
    {
        var vocabulary = Vocabulary(part.Get("vocab"));
        var unknown = part.Text("unk_token");
        var maxCharacters = part.TryGet("max_input_chars_per_word", out var limit) ? limit.AsInt(1, int.MaxValue) : 100;
        var model = new WordPieceModel(matchable(vocabulary), UnknownId(part, vocabulary, unknown), part.TextOrNull("continuing_subword_prefix") ?? "##", maxCharacters);
        return new ReadModel("wordpiece", model, ByIds(vocabulary, "model.vocab"), unknown);
    }

    private static ReadModel Pairs(JsonPart part, Matchable matchable)
    {
        if (part.TryGet("dropout", out var dropout) && dropout.AsDouble() != 0)
        {
            dropout.Fail("is set: encoding at random is not supported.");
        }

        var vocabulary = Vocabulary(part.Get("vocab"));
        var prefix = part.TextOrNull("continuing_subword_prefix") ?? "";
        var suffix = part.TextOrNull("end_of_word_suffix") ?? "";
        var unknown = part.TextOrNull("unk_token");
        var byteIds = part.Bool("byte_fallback", false) ? ByteTokens.Find(vocabulary) : null;
        var model = new PairModel(new PairModelOptions
        {
            Vocabulary = matchable(vocabulary),
            Merges = Merges(part.Get("merges"), vocabulary, prefix),
            Unknown = unknown is null ? null : UnknownId(part, vocabulary, unknown),
            FuseUnknown = part.Bool("fuse_unk", false),
            ByteIds = byteIds,
            ContinuationPrefix = prefix,
            EndOfWordSuffix = suffix,
            WholeWordsFirst = part.Bool("ignore_merges", false),
        });
        return new ReadModel(suffix.Length > 0 ? "classic-bpe" : "bpe", model, ByIds(vocabulary, "model.vocab"), unknown);
    }

    private static List<BpeMerge> Merges(JsonPart part, Dictionary<string, int> vocabulary, string prefix)
    {
        var merges = new List<BpeMerge>();
        foreach (var merge in part.Items())
        {
            // Both forms are in use: "a b" and ["a", "b"].
            string[] pair = merge.Element.ValueKind == JsonValueKind.Array ? [.. merge.Items().Select(p => p.AsText())] : merge.AsText().Split(' ');
            if (pair is not [{ Length: > 0 } left, { Length: > 0 } right])
            {
                merge.Fail("is not a pair of tokens.");
                continue;
            }

            var joined = left + (right.StartsWith(prefix, StringComparison.Ordinal) ? right[prefix.Length..] : right);
            merges.Add(new BpeMerge(IdOf(left), IdOf(right), IdOf(joined)));

            int IdOf(string token) => vocabulary.TryGetValue(token, out var id) ? id : throw new InvalidDataException(
                $"{merge.Path} joins {JsonPart.Quote(left)} and {JsonPart.Quote(right)}, but model.vocab has no {JsonPart.Quote(token)}.");
        }

        return merges;
    }

    private static ReadModel Unigram(JsonPart part, Matchable matchable)
    {
        var vocabulary = new Dictionary<string, int>(StringComparer.Ordinal);
        var tokens = new List<string?>();
        var scores = new List<double>();
        foreach (var entry in part.Get("vocab").Items())
        {
            JsonPart[] pair = [.. entry.Items()];
            if (pair is not [var token, var score])
            {
                entry.Fail("is not a pair of token and score.");
                continue;
            }

            if (!vocabulary.TryAdd(token.AsText(), tokens.Count))
            {
                entry.Fail($"is {JsonPart.Quote(token.AsText())}, which comes twice.");
            }

            tokens.Add(token.AsText());
            scores.Add(score.AsDouble());
        }

        if (tokens.Count == 0)
        {
            part.Get("vocab").Fail("is empty.");
        }

        var byteIds = part.Bool("byte_fallback", false) ? ByteTokens.Find(vocabulary) : null;
        var unknown = part.TryGet("unk_id", out var id) ? id.AsInt(0, tokens.Count - 1) : -1;
        if (unknown < 0 && byteIds is null)
        {
            throw new InvalidDataException($"{part.Path}.unk_id is missing: not every text could be encoded.");
        }

        return new ReadModel("unigram", new UnigramModel(matchable(vocabulary), [.. scores], unknown, byteIds), [.. tokens], unknown < 0 ? null : tokens[unknown]);
    }

    private static Dictionary<string, int> Without(Dictionary<string, int> vocabulary, IReadOnlySet<string> special, IReadOnlyCollection<string> ends)
    {
        var matchable = new Dictionary<string, int>(vocabulary, StringComparer.Ordinal);
        foreach (var token in special.Concat(ends))
        {
            matchable.Remove(token);
        }

        return matchable;
    }

    private static int UnknownId(JsonPart part, Dictionary<string, int> vocabulary, string unknown) => vocabulary.TryGetValue(unknown, out var id) ? id
        : throw new InvalidDataException($"{part.Path}.unk_token is {JsonPart.Quote(unknown)}, which model.vocab does not have: not every text could be encoded.");
}
