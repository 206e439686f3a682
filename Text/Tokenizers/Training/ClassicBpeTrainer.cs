namespace LlmPipeline.Text;

/// <summary>Makes a tokenizer of classic BPE: ids for all characters, within and at the end of a word, and for what the merges make.</summary>
internal static class ClassicBpeTrainer
{
    public static ITokenizer Train(WordCounts words, TokenizerOptions options, Action<double>? progress, CancellationToken cancellationToken)
    {
        var special = TokenizerTrainer.SpecialIds(options, SpecialTokens.Unknown);
        var characters = new SortedDictionary<string, long>(StringComparer.Ordinal);
        foreach (var (word, count) in ClassicBpe.Words(words))
        {
            foreach (var rune in word.EnumerateRunes())
            {
                var character = rune.ToString();
                characters[character] = characters.GetValueOrDefault(character) + count;
            }
        }

        List<string> kept = [.. characters.Where(c => c.Value >= options.MinFrequency).Select(c => c.Key)];
        List<string> alphabet = ["\n" + ClassicBpe.EndOfWord, .. kept, .. kept.Select(c => c + ClassicBpe.EndOfWord)];
        var wanted = options.VocabularySize - special.Count - alphabet.Count;
        if (wanted < 0)
        {
            throw new InvalidDataException(
                $"A classic BPE vocabulary of {options.VocabularySize} is too small: the text has {kept.Count} characters, which take {special.Count + alphabet.Count} ids. Raise the size, or min_frequency.");
        }

        // Two pairs can make one token: a few more merges than tokens are asked for, and taken while there is room.
        var tokens = new HashSet<string>(special.Keys.Concat(alphabet), StringComparer.Ordinal);
        List<string> ordered = [.. alphabet];
        var merges = new List<(string Left, string Right)>();
        foreach (var merge in ClassicBpe.Learn(words, wanted + (wanted / 8) + 16, 2, progress, cancellationToken).Merges)
        {
            var joined = merge.Left + merge.Right;
            if (special.ContainsKey(joined) || !tokens.Contains(merge.Left) || !tokens.Contains(merge.Right))
            {
                continue; // of a rare character, or of what such a pair would have made
            }

            if (!tokens.Contains(joined))
            {
                if (ordered.Count == wanted + alphabet.Count)
                {
                    break;
                }

                tokens.Add(joined);
                ordered.Add(joined);
            }

            merges.Add(merge);
        }

        return TokenizerTrainer.Read(KindFiles.ClassicBpe(special, ordered, merges));
    }
}
