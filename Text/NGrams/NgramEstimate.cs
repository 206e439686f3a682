namespace LlmPipeline.Text.NGrams;

/// <summary>
/// What a smoothing makes of counts: the probability of each n-gram's last id after the ids before it, and by how much the
/// probabilities after a shorter context are multiplied for ids that were never seen after a context.
/// </summary>
/// <param name="Probabilities">By node; that of the root means nothing.</param>
/// <param name="Backoffs">By context; 1 where nothing was seen after it.</param>
internal sealed record NgramEstimate(double[] Probabilities, double[] Backoffs)
{
    /// <summary>Estimates with the smoothing of the options. Deterministic, whatever the number of threads.</summary>
    public static NgramEstimate Of(NgramCounts counts, NgramOptions options, CancellationToken cancellationToken)
    {
        var estimate = new NgramEstimate(new double[counts.Trie.Count], new double[counts.Trie.ContextCount]);
        Action<int> estimateContext = options.Smoothing switch
        {
            NgramSmoothing.KneserNey => new KneserNeyEstimator(counts, estimate).Estimate,
            NgramSmoothing.GoodTuring => new KatzEstimator(counts, estimate).Estimate,
            NgramSmoothing.AddK => context => estimate.AddConstant(counts, context, options.K),
            _ => context => estimate.AddConstant(counts, context, 0),
        };
        for (var order = 0; order < counts.Order; order++)
        {
            // The shorter contexts are done.
            ParallelRanges.Run(counts.Trie.OrderStart[order], counts.Trie.OrderStart[order + 1], (begin, end) =>
            {
                for (var context = begin; context < end; context++)
                {
                    estimate.Backoffs[context] = 1;
                    if (counts.Trie.HasChildren(context))
                    {
                        estimateContext(context);
                    }
                }
            }, cancellationToken);
        }

        return estimate;
    }

    /// <summary>The probability after the shorter context, where the n-gram without its first id is known.</summary>
    public double Shorter(NgramTrie trie, int context, int node) => context == 0 ? 1.0 / trie.VocabularySize : Probabilities[trie.Suffixes[node]];

    // Maximum likelihood with 0. What was not seen shares the rest evenly.
    private void AddConstant(NgramCounts counts, int context, double k)
    {
        var trie = counts.Trie;
        double sum = 0;
        for (var node = trie.FirstChild[context]; node < trie.FirstChild[context + 1]; node++)
        {
            sum += counts.Counts[node];
        }

        sum += k * counts.VocabularySize;
        for (var node = trie.FirstChild[context]; node < trie.FirstChild[context + 1]; node++)
        {
            Probabilities[node] = (counts.Counts[node] + k) / sum;
        }

        Backoffs[context] = k * counts.VocabularySize / sum;
    }
}
