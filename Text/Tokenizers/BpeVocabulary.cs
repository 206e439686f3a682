namespace LlmPipeline.Text;

/// <summary>A checked byte-level vocabulary.</summary>
/// <param name="Tokens">Bytes by id; empty for special tokens.</param>
/// <param name="Merges">In order of rank.</param>
/// <param name="SpecialTokens">Special token to id.</param>
/// <param name="Splitter">Cuts text into words.</param>
internal sealed record BpeVocabulary(byte[][] Tokens, IReadOnlyList<BpeMerge> Merges, IReadOnlyDictionary<string, int> SpecialTokens, IWordSplitter Splitter)
{
    /// <summary>Id of the end of text.</summary>
    public int EndOfTextId => SpecialTokens[Text.SpecialTokens.EndOfText];

    /// <summary>Checks and joins what a file says.</summary>
    /// <param name="vocabulary">Token to id, special tokens included.</param>
    /// <param name="merges">In order of rank.</param>
    /// <param name="special">Which tokens are special.</param>
    /// <param name="splitter">Cuts text into words.</param>
    /// <exception cref="InvalidDataException">The parts do not fit together; the message says where.</exception>
    public static BpeVocabulary Create(IReadOnlyDictionary<string, int> vocabulary, IEnumerable<(string Left, string Right)> merges, IReadOnlySet<string> special, IWordSplitter splitter)
    {
        var tokens = new byte[vocabulary.Count][];
        var specialIds = new Dictionary<string, int>(StringComparer.Ordinal);
        var singleBytes = new bool[256];
        foreach (var (token, id) in vocabulary)
        {
            if ((uint)id >= (uint)tokens.Length || tokens[id] is not null)
            {
                throw new InvalidDataException($"model.vocab[{Quote(token)}] is {id}: the {tokens.Length} ids have to be 0 to {tokens.Length - 1}, each once.");
            }

            if (special.Contains(token))
            {
                tokens[id] = [];
                specialIds.Add(token, id);
                continue;
            }

            tokens[id] = ByteAlphabet.TryRead(token) is { Length: > 0 } bytes ? bytes : throw new InvalidDataException(
                $"model.vocab[{Quote(token)}] is not written in the byte-level alphabet: this is not a byte-level vocabulary.");
            if (tokens[id] is [var value])
            {
                singleBytes[value] = true;
            }
        }

        if (!specialIds.ContainsKey(Text.SpecialTokens.EndOfText))
        {
            throw new InvalidDataException($"added_tokens has no special token {Text.SpecialTokens.EndOfText}.");
        }

        if (Array.IndexOf(singleBytes, false) is >= 0 and var missing)
        {
            throw new InvalidDataException($"model.vocab has no token for the single byte 0x{missing:X2}: not every text could be encoded.");
        }

        return new BpeVocabulary(tokens, [.. merges.Select((m, i) => Resolve(m, i, vocabulary, special))], specialIds, splitter);
    }

    /// <summary>A text of a file, for a message.</summary>
    internal static string Quote(string text)
    {
        text = string.Concat(text.Take(40).Select(c => char.IsControl(c) || char.IsSurrogate(c) ? '?' : c));
        return $"\"{text}\"";
    }

    private static BpeMerge Resolve((string Left, string Right) merge, int index, IReadOnlyDictionary<string, int> vocabulary, IReadOnlySet<string> special)
    {
        return new BpeMerge(IdOf(merge.Left), IdOf(merge.Right), IdOf(merge.Left + merge.Right));

        int IdOf(string token) => vocabulary.TryGetValue(token, out var id) && !special.Contains(token) ? id : throw new InvalidDataException(
            $"model.merges[{index}] joins {Quote(merge.Left)} and {Quote(merge.Right)}, but model.vocab has no {Quote(token)}.");
    }
}
