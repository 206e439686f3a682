using System.Text;
using System.Text.Json;

namespace LlmPipeline.Text.Tests.Tokenizers;

/// <summary>Byte-pair encoding written for clarity alone, from the definition.</summary>
internal static class ReferenceBpe
{
    /// <summary>Encodes one word: the pair with the lowest rank is merged, from left to right, until none is left.</summary>
    public static int[] Encode(ITokenizer tokenizer, string word)
    {
        using var json = JsonDocument.Parse(tokenizer.ToJson());
        var model = json.RootElement.GetProperty("model");
        var ranks = model.GetProperty("merges").EnumerateArray().Select((m, rank) => (Pair: m.GetString()!, rank)).ToDictionary(m => m.Pair, m => m.rank);
        var parts = Encoding.UTF8.GetBytes(word).Select(b => ByteAlphabet.Write([b])).ToList();
        while (true)
        {
            var best = Enumerable.Range(0, Math.Max(1, parts.Count - 1)).MinBy(i => parts.Count < 2 ? 0 : ranks.GetValueOrDefault($"{parts[i]} {parts[i + 1]}", int.MaxValue));
            if (parts.Count < 2 || !ranks.ContainsKey($"{parts[best]} {parts[best + 1]}"))
            {
                return [.. parts.Select(p => model.GetProperty("vocab").GetProperty(p).GetInt32())];
            }

            parts[best] += parts[best + 1];
            parts.RemoveAt(best + 1);
        }
    }

    /// <summary>Learns merges by counting all pairs anew for each one.</summary>
    /// <param name="words">Words and their counts.</param>
    /// <param name="merges">How many.</param>
    public static List<string> Learn(IEnumerable<(string Word, long Count)> words, int merges)
    {
        var idOf = new Dictionary<string, int>();
        foreach (var b in ByteAlphabet.IdOrder)
        {
            idOf.Add(ByteAlphabet.Write([b]), idOf.Count);
        }

        var parts = words.Select(w => (Parts: Encoding.UTF8.GetBytes(w.Word).Select(b => ByteAlphabet.Write([b])).ToList(), w.Count)).ToList();
        var learned = new List<string>();
        while (learned.Count < merges)
        {
            var counts = new Dictionary<(string, string), long>();
            foreach (var (word, count) in parts)
            {
                for (var i = 0; i + 1 < word.Count; i++)
                {
                    counts[(word[i], word[i + 1])] = counts.GetValueOrDefault((word[i], word[i + 1])) + count;
                }
            }

            var ((left, right), _) = counts.OrderByDescending(c => c.Value).ThenBy(c => idOf[c.Key.Item1]).ThenBy(c => idOf[c.Key.Item2]).First();
            learned.Add($"{left} {right}");
            idOf.TryAdd(left + right, idOf.Count);
            foreach (var (word, _) in parts)
            {
                for (var i = 0; i + 1 < word.Count; i++)
                {
                    if (word[i] == left && word[i + 1] == right)
                    {
                        word[i] += right;
                        word.RemoveAt(i + 1);
                    }
                }
            }
        }

        return learned;
    }
}
