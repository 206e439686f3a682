namespace LlmPipeline.Text.NGrams;

/// <summary>
/// Katz back-off with Good-Turing discounts (Katz 1987): counts of 1 to 5 are discounted, larger ones are trusted; what that
/// frees after a context is given to ids never seen after it, in proportion to their probability after the shorter context.
/// </summary>
/// <remarks>
/// Where an order's counts of counts give no discount between 0 and 1 (small or regular text), its counts of 1 to 5 lose 0.5
/// each instead. Where a context has larger counts only, so that nothing is freed, one is added to its sum. Where all ids were
/// seen after a context, the probabilities are scaled to add up to 1.
/// </remarks>
internal sealed class KatzEstimator
{
    private const int Trusted = 6;

    private readonly NgramTrie _trie;
    private readonly NgramEstimate _estimate;
    private readonly int[] _counts;
    private readonly double[][] _ratios;

    public KatzEstimator(NgramCounts counts, NgramEstimate estimate)
    {
        (_trie, _estimate, _counts) = (counts.Trie, estimate, counts.Counts);
        _ratios = [.. Enumerable.Range(0, counts.Order).Select(order => Ratios(_counts.AsSpan(_trie.OrderStart[order + 1].._trie.OrderStart[order + 2])))];
    }

    public void Estimate(int context)
    {
        var order = 0;
        while (context >= _trie.OrderStart[order + 1])
        {
            order++;
        }

        var (begin, end) = (_trie.FirstChild[context], _trie.FirstChild[context + 1]);
        double sum = 0, kept = 0, shorter = 0;
        var seen = 0;
        for (var node = begin; node < end; node++)
        {
            if (_counts[node] > 0)
            {
                seen++;
                sum += _counts[node];
                kept += Discounted(order, node);
                shorter += _estimate.Shorter(_trie, context, node);
            }
        }

        var all = seen == _trie.VocabularySize;
        sum = all ? kept : sum - kept > sum * 1e-12 ? sum : sum + 1;
        if (!all)
        {
            // The difference has few right digits where nearly all was seen.
            var rest = 1 - shorter > 1e-3 ? 1 - shorter : UnseenAfterShorter(context);
            _estimate.Backoffs[context] = (sum - kept) / sum / rest;
        }

        for (var node = begin; node < end; node++)
        {
            _estimate.Probabilities[node] = _counts[node] > 0
                ? Discounted(order, node) / sum
                : _estimate.Backoffs[context] * _estimate.Shorter(_trie, context, node);
        }
    }

    private double Discounted(int order, int node) => _counts[node] < Trusted ? _ratios[order][_counts[node]] * _counts[node] : _counts[node];

    /// <summary>Probability, after the next shorter context, of all ids that were not seen after this one.</summary>
    private double UnseenAfterShorter(int context)
    {
        double rest = 0;
        for (var id = 0; id < _trie.VocabularySize; id++)
        {
            var node = _trie.Find(context, id);
            if (node < 0 || _counts[node] == 0)
            {
                rest += context == 0 ? 1.0 / _trie.VocabularySize : AfterShorter(_trie.Suffixes[context], id);
            }
        }

        return rest;
    }

    private double AfterShorter(int context, int id)
    {
        var weight = 1.0;
        while (true)
        {
            var node = _trie.Find(context, id);
            if (node >= 0)
            {
                return weight * _estimate.Probabilities[node];
            }

            weight *= _estimate.Backoffs[context];
            if (context == 0)
            {
                return weight / _trie.VocabularySize;
            }

            context = _trie.Suffixes[context];
        }
    }

    /// <summary>What is kept of a count of 1 to 5, as a share of it.</summary>
    private static double[] Ratios(ReadOnlySpan<int> counts)
    {
        var n = new double[Trusted + 1];
        foreach (var count in counts)
        {
            n[count is >= 1 and <= Trusted ? count : 0]++;
        }

        var ratios = new double[Trusted];
        var trusted = Trusted * n[Trusted] / n[1];
        for (var r = 1; r < Trusted; r++)
        {
            ratios[r] = (((r + 1) * n[r + 1] / (r * n[r])) - trusted) / (1 - trusted);
            if (!(ratios[r] is > 0 and < 1))
            {
                return [.. Enumerable.Range(0, Trusted).Select(c => c == 0 ? 0 : (c - 0.5) / c)];
            }
        }

        return ratios;
    }
}
