namespace LlmPipeline.Text;

/// <summary>Any <c>tokenizer.json</c> as a pipeline of what it names.</summary>
internal static class PipelineFile
{
    /// <summary>Tokens that end a text, in the order in which they are looked for.</summary>
    private static readonly string[] EndsOfText = [SpecialTokens.EndOfText, "<|end_of_text|>", "</s>", "<eos>", "<|eot_id|>", "<|im_end|>", "[SEP]"];

    /// <exception cref="InvalidDataException">The message has the path of what is wrong or not supported.</exception>
    public static PipelineTokenizer Read(JsonPart root, string json)
    {
        RequireKnownPostProcessor(root);
        var added = ReadAddedTokens(root);
        var special = added.Where(t => t.Special).Select(t => t.Content).ToHashSet(StringComparer.Ordinal);
        var normalizer = root.TryGet("normalizer", out var part) ? JsonNormalizers.Read(part) : null;
        var preTokenizer = root.TryGet("pre_tokenizer", out part) ? JsonPreTokenizers.Read(part) : null;
        var decoder = root.TryGet("decoder", out part) ? JsonDecoders.Read(part) : [new DecoderStep.Join()];
        var model = JsonModels.Read(root.Get("model"), special, EndsOfText);
        var tokens = Join(model.Tokens, added);
        var end = FindEndOfText(tokens, special);
        return new PipelineTokenizer(new TokenizerParts
        {
            Kind = KindOf(model.Kind, preTokenizer),
            Normalizer = normalizer,
            PreTokenizer = preTokenizer,
            Model = model.Model,
            Decoder = new TokenDecoder([.. tokens.Select((t, id) => t is null || id == end || special.Contains(t) ? null : t)], decoder),
            AddedTokens = new AddedTokens(added, normalizer),
            EndOfTextId = end,
            UnknownId = model.Unknown is { } unknown ? Array.IndexOf(tokens, unknown) : null,
            SpecialIds = SpecialIds(tokens, special, end),
        }, json);
    }

    private static string KindOf(string kind, PreTokenizer? preTokenizer) => kind != "word" || preTokenizer is not ScanningPreTokenizer scanning ? kind
        : scanning.FirstPart == TextSplitter.Grapheme.FirstPart ? "grapheme" : scanning.FirstPart == TextSplitter.Character.FirstPart ? "character" : kind;

    private static string?[] Join(string?[] tokens, List<AddedToken> added)
    {
        var joined = new string?[Math.Max(tokens.Length, added.Select(t => t.Id + 1).DefaultIfEmpty(0).Max())];
        tokens.CopyTo(joined, 0);
        for (var i = 0; i < added.Count; i++)
        {
            ref var token = ref joined[added[i].Id];
            token = token is null || token == added[i].Content ? added[i].Content : throw new InvalidDataException(
                $"added_tokens[{i}].id is {added[i].Id}, the id of {JsonPart.Quote(token)}.");
        }

        return joined;
    }

    private static int FindEndOfText(string?[] tokens, HashSet<string> special)
    {
        var name = EndsOfText.FirstOrDefault(special.Contains) ?? EndsOfText.FirstOrDefault(e => Array.IndexOf(tokens, e) >= 0) ?? throw new InvalidDataException(
            $"added_tokens and model.vocab have no token that ends a text: add one of {string.Join(", ", EndsOfText)} as a special token.");
        return Array.IndexOf(tokens, name);
    }

    private static List<AddedToken> ReadAddedTokens(JsonPart root)
    {
        var tokens = new List<AddedToken>();
        var contents = new HashSet<string>(StringComparer.Ordinal);
        if (!root.TryGet("added_tokens", out var list))
        {
            return tokens;
        }

        foreach (var part in list.Items())
        {
            var content = part.Text("content");
            if (content.Length == 0 || !contents.Add(content))
            {
                part.Get("content").Fail("is empty or comes twice.");
            }

            var special = part.Bool("special", false);
            tokens.Add(new AddedToken(
                content, part.Get("id").AsInt(0, JsonModels.MaxVocabularySize - 1), special, part.Bool("normalized", !special),
                part.Bool("single_word", false), part.Bool("lstrip", false), part.Bool("rstrip", false)));
        }

        return tokens;
    }

    private static Dictionary<string, int> SpecialIds(string?[] tokens, HashSet<string> special, int end)
    {
        var ids = new Dictionary<string, int>(StringComparer.Ordinal);
        for (var id = 0; id < tokens.Length; id++)
        {
            if (tokens[id] is { } token && (id == end || special.Contains(token)) && !ids.TryAdd(token, id))
            {
                throw new InvalidDataException($"The special token '{token}' has two ids, {ids[token]} and {id}; leave one of them.");
            }
        }

        return ids;
    }

    // It only adds special tokens around a text, which this project does where it needs them.
    private static void RequireKnownPostProcessor(JsonPart root)
    {
        if (root.TryGet("post_processor", out var part))
        {
            Check(part);
        }

        static void Check(JsonPart part)
        {
            var type = part.Text("type");
            if (type == "Sequence")
            {
                foreach (var step in part.Get("processors").Items())
                {
                    Check(step);
                }
            }
            else if (type is not ("ByteLevel" or "TemplateProcessing" or "BertProcessing" or "RobertaProcessing"))
            {
                throw new InvalidDataException($"{part.Path}.type is {JsonPart.Quote(type)}: only ByteLevel, TemplateProcessing, BertProcessing, RobertaProcessing and Sequence are supported.");
            }
        }
    }
}
