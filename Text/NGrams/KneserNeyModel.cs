namespace LlmPipeline.Text.NGrams;

/// <summary>
/// Interpolated modified Kneser-Ney (Chen and Goodman 1998) of any order over token ids. The highest order has raw counts, lower
/// ones count the ids that an n-gram was seen after; three discounts an order from its counts of counts; unigrams are
/// interpolated with 1 / V. The end-of-text id is an id like any other. Safe for use from many threads once trained.
/// </summary>
public sealed class KneserNeyModel
{
    private readonly NgramTrie _trie;
    private readonly int[] _counts;
    private readonly int[] _suffixes;
    private readonly double[] _sums;
    private readonly double[] _backoffs;
    private readonly double[][] _discounts;
    private readonly int[] _firstChild;
    private readonly int[] _children;
    private readonly int[] _mostLikely;

    private KneserNeyModel(int order, int vocabularySize, NgramTrie trie, int[] counts, int[] suffixes, byte[] lengths)
    {
        (Order, VocabularySize, _trie, _counts, _suffixes) = (order, vocabularySize, trie, counts, suffixes);
        _discounts = Discounts(order, trie.Count, counts, lengths);
        _sums = new double[trie.Count];
        _backoffs = new double[trie.Count];
        _firstChild = new int[trie.Count + 1];
        foreach (var (parent, _, node) in trie.Edges())
        {
            _sums[parent] += counts[node];
            _backoffs[parent] += counts[node] > 0 ? _discounts[lengths[node]][Math.Min(counts[node], 3)] : 0;
            _firstChild[parent + 1]++;
        }

        for (var node = 0; node < trie.Count; node++)
        {
            _backoffs[node] = _sums[node] > 0 ? _backoffs[node] / _sums[node] : 1;
            _firstChild[node + 1] += _firstChild[node];
        }

        _children = new int[trie.Count - 1];
        var next = _firstChild.AsSpan(0, trie.Count).ToArray();
        foreach (var (parent, id, _) in trie.Edges())
        {
            _children[next[parent]++] = id;
        }

        _mostLikely = new int[trie.Count];
        Array.Fill(_mostLikely, -1);
    }

    /// <summary>Longest n-gram.</summary>
    public int Order { get; }

    /// <summary>Number of ids.</summary>
    public int VocabularySize { get; }

    /// <summary>Number of distinct n-grams of all orders.</summary>
    public int NgramCount => _trie.Count - 1;

    /// <summary>Counts the n-grams of a split.</summary>
    /// <param name="split">The tokens, one stream.</param>
    /// <param name="vocabularySize">Number of ids.</param>
    /// <param name="order">Longest n-gram, from 1 on.</param>
    /// <param name="progress">Called with the share done.</param>
    /// <param name="cancellationToken">Ends the training.</param>
    public static KneserNeyModel Train(TokenSplit split, int vocabularySize, int order, Action<double>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(split);
        ArgumentOutOfRangeException.ThrowIfLessThan(order, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(order, 200);
        var trie = new NgramTrie();
        var counts = new int[1 << 16];
        var suffixes = new int[1 << 16];
        var lengths = new byte[1 << 16];

        // From the end to the beginning: when an n-gram is new, the one without its first id is known from the position after it.
        var nodes = new int[order + 1];
        var nodesAfter = new int[order + 1];
        var block = new int[(1 << 16) + order];
        for (var end = split.TokenCount; end > 0;)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var begin = Math.Max(0, end - (1 << 16));
            var ahead = (int)Math.Min(order - 1, split.TokenCount - end);
            var length = (int)(end - begin) + ahead;
            split.Read(begin, block.AsSpan(0, length));
            for (var i = (int)(end - begin) - 1; i >= 0; i--)
            {
                var longest = (int)Math.Min(order, split.TokenCount - begin - i);
                for (var n = 1; n <= longest; n++)
                {
                    var node = nodes[n] = trie.FindOrAdd(nodes[n - 1], block[i + n - 1], out var added);
                    if (added)
                    {
                        if (node >= counts.Length)
                        {
                            Array.Resize(ref counts, counts.Length * 2);
                            Array.Resize(ref suffixes, counts.Length);
                            Array.Resize(ref lengths, counts.Length);
                        }

                        suffixes[node] = nodesAfter[n - 1];
                        lengths[node] = (byte)n;
                        counts[nodesAfter[n - 1]] += n > 1 ? 1 : 0;
                    }

                    counts[node] += n == order ? 1 : 0;
                }

                (nodes, nodesAfter) = (nodesAfter, nodes);
            }

            end = begin;
            progress?.Invoke((double)(split.TokenCount - end) / split.TokenCount);
        }

        counts[0] = 0;
        return new KneserNeyModel(order, vocabularySize, trie, counts, suffixes, lengths);
    }

    /// <summary>Natural logarithm of the probability of an id after a context.</summary>
    /// <param name="context">The ids before it; the newest <see cref="Order"/> - 1 count.</param>
    /// <param name="id">The id.</param>
    public double LogProbability(ReadOnlySpan<int> context, int id) => Math.Log(Probability(ContextNode(context), id));

    /// <summary>The most likely id after a context; of equally likely ones the smallest.</summary>
    public int MostLikely(ReadOnlySpan<int> context) => MostLikely(ContextNode(context));

    // Of the ids that were never seen after a context, none beats the best one after the shorter context.
    private int MostLikely(int context)
    {
        if (_mostLikely[context] >= 0)
        {
            return _mostLikely[context];
        }

        var best = context == 0 ? 0 : MostLikely(_suffixes[context]);
        var bestProbability = Probability(context, best);
        foreach (var id in _children.AsSpan(_firstChild[context].._firstChild[context + 1]))
        {
            var probability = Probability(context, id);
            if (probability > bestProbability || (probability == bestProbability && id < best))
            {
                (best, bestProbability) = (id, probability);
            }
        }

        return _mostLikely[context] = best;
    }

    private double Probability(int context, int id)
    {
        Span<int> contexts = stackalloc int[Order];
        var length = 0;
        for (var node = context; ; node = _suffixes[node])
        {
            contexts[length++] = node;
            if (node == 0)
            {
                break;
            }
        }

        var probability = 1.0 / VocabularySize;
        for (var n = 1; n <= length; n++)
        {
            var node = contexts[length - n];
            if (_sums[node] == 0)
            {
                continue;
            }

            var ngram = _trie.Find(node, id);
            var count = ngram < 0 ? 0 : _counts[ngram];
            probability = (_backoffs[node] * probability) + (count > 0 ? (count - _discounts[n][Math.Min(count, 3)]) / _sums[node] : 0);
        }

        return probability;
    }

    /// <summary>The node of the longest known ending of a context.</summary>
    private int ContextNode(ReadOnlySpan<int> context)
    {
        for (var length = Math.Min(context.Length, Order - 1); length > 0; length--)
        {
            var node = 0;
            foreach (var id in context[^length..])
            {
                node = _trie.Find(node, id);
                if (node < 0)
                {
                    break;
                }
            }

            if (node >= 0)
            {
                return node;
            }
        }

        return 0;
    }

    /// <summary>D1, D2 and D3+ of each order at places 1 to 3, from the counts of counts n1 to n4.</summary>
    private static double[][] Discounts(int order, int nodes, int[] counts, byte[] lengths)
    {
        var countsOfCounts = new long[order + 1, 5];
        for (var node = 1; node < nodes; node++)
        {
            if (counts[node] is >= 1 and <= 4)
            {
                countsOfCounts[lengths[node], counts[node]]++;
            }
        }

        var discounts = new double[order + 1][];
        for (var n = 0; n <= order; n++)
        {
            discounts[n] = new double[4];
            double n1 = countsOfCounts[n, 1], n2 = countsOfCounts[n, 2];
            var y = n1 / (n1 + (2 * n2));
            for (var c = 1; c <= 3; c++)
            {
                // Text too small or too regular for the estimate gets a plain discount.
                var discount = c - ((c + 1) * y * countsOfCounts[n, c + 1] / countsOfCounts[n, c]);
                discounts[n][c] = double.IsFinite(discount) && discount > 0 && discount < c ? discount : 0.5 * c;
            }
        }

        return discounts;
    }
}
