namespace LlmPipeline.Text.NGrams;

/// <summary>
/// Interpolated modified Kneser-Ney (Chen and Goodman 1998). The longest n-grams have their counts, as have those that begin a
/// document; shorter ones count the different ids they were seen after. Three discounts an order come from its counts of
/// counts; unigrams are interpolated with 1 / V.
/// </summary>
internal sealed class KneserNeyEstimator
{
    private readonly NgramTrie _trie;
    private readonly NgramEstimate _estimate;
    private readonly int[] _counts;
    private readonly double[][] _discounts;

    public KneserNeyEstimator(NgramCounts counts, NgramEstimate estimate)
    {
        (_trie, _estimate) = (counts.Trie, estimate);
        _counts = Continuations(counts);
        _discounts = [.. Enumerable.Range(0, counts.Order).Select(order => Discounts(_trie.OrderStart[order + 1], _trie.OrderStart[order + 2]))];
    }

    public void Estimate(int context)
    {
        var order = 0;
        while (context >= _trie.OrderStart[order + 1])
        {
            order++;
        }

        var discounts = _discounts[order];
        double sum = 0, discounted = 0;
        for (var node = _trie.FirstChild[context]; node < _trie.FirstChild[context + 1]; node++)
        {
            sum += _counts[node];
            discounted += discounts[Math.Min(_counts[node], 3)];
        }

        var backoff = _estimate.Backoffs[context] = sum > 0 ? discounted / sum : 1;
        for (var node = _trie.FirstChild[context]; node < _trie.FirstChild[context + 1]; node++)
        {
            var own = sum > 0 ? (_counts[node] - discounts[Math.Min(_counts[node], 3)]) / sum : 0;
            _estimate.Probabilities[node] = own + (backoff * _estimate.Shorter(_trie, context, node));
        }
    }

    private static int[] Continuations(NgramCounts counts)
    {
        var trie = counts.Trie;
        var adjusted = new int[trie.Count];
        for (var node = trie.OrderStart[Math.Min(2, trie.Order + 1)]; node < trie.Count; node++)
        {
            adjusted[trie.Suffixes[node]]++;
        }

        // What begins with the end-of-text id has nothing before it; its nodes stand together in each order.
        var (begin, end) = (trie.Find(0, counts.EndOfTextId), trie.Find(0, counts.EndOfTextId) + 1);
        for (var order = 2; order < trie.Order; order++)
        {
            (begin, end) = (trie.FirstChild[begin], trie.FirstChild[end]);
            counts.Counts.AsSpan(begin..end).CopyTo(adjusted.AsSpan(begin));
        }

        var longest = trie.OrderStart[trie.Order]..trie.Count;
        counts.Counts.AsSpan(longest).CopyTo(adjusted.AsSpan(longest));
        return adjusted;
    }

    /// <summary>D1, D2 and D3+ at places 1 to 3, from the counts of counts n1 to n4.</summary>
    private double[] Discounts(int begin, int end)
    {
        var n = new double[5];
        foreach (var count in _counts.AsSpan(begin, end - begin))
        {
            n[count is >= 1 and <= 4 ? count : 0]++;
        }

        var y = n[1] / (n[1] + (2 * n[2]));
        var discounts = new double[4];
        for (var c = 1; c <= 3; c++)
        {
            // Text too small or too regular for the estimate gets a plain discount.
            var discount = c - ((c + 1) * y * n[c + 1] / n[c]);
            discounts[c] = double.IsFinite(discount) && discount > 0 && discount < c ? discount : 0.5 * c;
        }

        return discounts;
    }
}
