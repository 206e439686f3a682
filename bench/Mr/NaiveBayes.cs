namespace LlmPipeline.Bench.Mr;

/// <summary>
/// The floor: multinomial naive Bayes over the words and pairs of words that a sentence has, each counted once, with add-one
/// smoothing (Wang and Manning 2012 call it MNB).
/// </summary>
internal static class NaiveBayes
{
    /// <summary>Which of the test sentences are classified right.</summary>
    public static bool[] Classify(IReadOnlyList<Sentence> train, IReadOnlyList<Sentence> test)
    {
        var counts = new Dictionary<string, double[]>(StringComparer.Ordinal);
        double[] totals = [0, 0], documents = [0, 0];
        foreach (var sentence in train)
        {
            documents[sentence.Label]++;
            foreach (var feature in Features(sentence.Text))
            {
                if (!counts.TryGetValue(feature, out var count))
                {
                    counts.Add(feature, count = new double[2]);
                }

                count[sentence.Label]++;
                totals[sentence.Label]++;
            }
        }

        return [.. test.Select(s => (Score(s, 1) > Score(s, 0) ? 1 : 0) == s.Label)];

        double Score(Sentence sentence, int label) => Math.Log(documents[label]) + Features(sentence.Text).Where(counts.ContainsKey)
            .Sum(f => Math.Log((counts[f][label] + 1) / (totals[label] + counts.Count)));
    }

    private static HashSet<string> Features(string text)
    {
        var words = text.Split(' ', StringSplitOptions.RemoveEmptyEntries);
        return [.. words, .. words.Zip(words.Skip(1), (a, b) => $"{a} {b}")];
    }
}
