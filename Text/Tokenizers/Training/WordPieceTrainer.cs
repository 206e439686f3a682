using System.Runtime.InteropServices;

namespace LlmPipeline.Text;

/// <summary>
/// Learns word pieces: characters that begin a word, characters that continue one (with ## before them), then the most frequent pair of
/// neighbours again and again, as for byte pairs. That is what Hugging Face's trainer does and what vocabularies in use were made with;
/// the likelihood score count(ab) / (count(a) count(b)) of Schuster and Nakajima 2012 prefers rare pairs and is not used.
/// Equally frequent pairs: the smallest left id, then the smallest right id.
/// </summary>
internal static class WordPieceTrainer
{
    public const string Prefix = "##";

    public static ITokenizer Train(WordCounts words, TokenizerOptions options, Action<double>? progress, CancellationToken cancellationToken)
    {
        var special = TokenizerTrainer.SpecialIds(options, SpecialTokens.WordPieceUnknown);
        var tokens = special.Keys.ToList();
        var ids = new Dictionary<string, int>(special, StringComparer.Ordinal);
        var counted = TokenizerTrainer.Frequent(words, 1);
        foreach (var symbol in Alphabet(counted, options, special))
        {
            ids.Add(symbol, tokens.Count);
            tokens.Add(symbol);
        }

        var learner = new PairLearner(Symbols(counted, ids), (a, b) => a.CompareTo(b));
        var first = tokens.Count;
        while (tokens.Count < options.VocabularySize && learner.TryFindBest(2, out var left, out var right))
        {
            cancellationToken.ThrowIfCancellationRequested();
            var joined = tokens[left] + tokens[right][Prefix.Length..];

            // A word that begins with the prefix could not be told from a continuation, nor a special token from text.
            if (special.ContainsKey(joined) || (joined.StartsWith(Prefix, StringComparison.Ordinal) && !tokens[left].StartsWith(Prefix, StringComparison.Ordinal)))
            {
                learner.Refuse(left, right);
                continue;
            }

            ref var id = ref CollectionsMarshal.GetValueRefOrAddDefault(ids, joined, out var exists);
            if (!exists)
            {
                id = tokens.Count;
                tokens.Add(joined);
            }

            learner.Apply(left, right, id);
            if (tokens.Count % 64 == 0)
            {
                progress?.Invoke((double)(tokens.Count - first) / Math.Max(1, options.VocabularySize - first));
            }
        }

        progress?.Invoke(1);
        return TokenizerTrainer.Read(KindFiles.WordPiece(special, tokens.Skip(special.Count)));
    }

    // Frequent characters first, where not all of them fit.
    private static List<string> Alphabet(List<(string Word, long Count)> words, TokenizerOptions options, Dictionary<string, int> special)
    {
        var counts = new Dictionary<string, long>(StringComparer.Ordinal);
        foreach (var (word, count) in words)
        {
            foreach (var symbol in SymbolsOf(word))
            {
                CollectionsMarshal.GetValueRefOrAddDefault(counts, symbol, out _) += count;
            }
        }

        var kept = counts.Where(c => c.Value >= options.MinFrequency && !special.ContainsKey(c.Key))
            .OrderByDescending(c => c.Value).ThenBy(c => c.Key, StringComparer.Ordinal).Take(Math.Max(0, options.VocabularySize - special.Count)).Select(c => c.Key).ToList();
        kept.Sort(StringComparer.Ordinal);
        return kept.Count > 0 ? kept : throw new InvalidDataException(
            $"A WordPiece vocabulary of {options.VocabularySize} cannot be made: it needs text, and a place for each character beside the {special.Count} special tokens.");
    }

    private static IEnumerable<(int[] Symbols, long Count)> Symbols(List<(string Word, long Count)> words, Dictionary<string, int> ids)
    {
        foreach (var (word, count) in words)
        {
            var symbols = SymbolsOf(word);
            if (symbols.Length > 1 && Array.TrueForAll(symbols, ids.ContainsKey))
            {
                yield return (Array.ConvertAll(symbols, s => ids[s]), count);
            }
        }
    }

    private static string[] SymbolsOf(string word)
    {
        string[] symbols = [.. word.EnumerateRunes().Select((r, i) => i == 0 ? r.ToString() : Prefix + r.ToString())];
        return symbols;
    }
}
