namespace LlmPipeline.Models;

// V = vocabulary

/// <summary>Chooses tokens.</summary>
public static class Sampler
{
    /// <summary>Chooses one token: temperature, then the k most likely, then the likeliest of them up to a probability of p, then a draw.</summary>
    /// <param name="logits_V">One row of logits.</param>
    /// <param name="options">How to choose.</param>
    /// <param name="position">Number of the token in its text, from 0; the draw is derived from (seed, position).</param>
    /// <returns>The id. Among equal logits the lower id goes first.</returns>
    /// <exception cref="ArithmeticException">A logit is NaN or plus infinity, or all are minus infinity: the weights are broken.</exception>
    public static int Sample(ReadOnlySpan<float> logits_V, SamplingOptions options, long position)
    {
        ArgumentNullException.ThrowIfNull(options);
        var greedy = Greedy(logits_V);
        if (options.Temperature == 0 || options.TopK == 1)
        {
            return greedy;
        }

        // Unnormalized probabilities; the largest is 1. A temperature so small that a difference overflows gives exp(-inf) = 0.
        var weights = new double[logits_V.Length];
        for (var i = 0; i < weights.Length; i++)
        {
            weights[i] = logits_V[i] == logits_V[greedy] ? 1 : Math.Exp(((double)logits_V[i] - logits_V[greedy]) / options.Temperature);
        }

        var uniform = Seeds.Uniform(Seeds.Derive(options.Seed, "token", position), 0);
        if ((options.TopK == 0 || options.TopK >= weights.Length) && options.TopP >= 1)
        {
            return Draw(weights, uniform);
        }

        var ids = Candidates(weights, options);
        return ids[Draw(Array.ConvertAll(ids, id => weights[id]), uniform)];
    }

    /// <summary>The most likely token; among equal logits the lowest id.</summary>
    /// <exception cref="ArithmeticException">A logit is NaN or plus infinity, or all are minus infinity: the weights are broken.</exception>
    public static int Greedy(ReadOnlySpan<float> logits_V)
    {
        var best = 0;
        for (var i = 0; i < logits_V.Length; i++)
        {
            if (float.IsNaN(logits_V[i]) || float.IsPositiveInfinity(logits_V[i]))
            {
                throw new ArithmeticException($"The model's logit of id {i} is {logits_V[i]}: its weights are broken.");
            }

            best = logits_V[i] > logits_V[best] ? i : best;
        }

        return !float.IsNegativeInfinity(logits_V[best]) ? best : throw new ArithmeticException("All logits of the model are minus infinity: its weights are broken.");
    }

    private static int Draw(double[] weights, double uniform)
    {
        var rest = uniform * weights.Sum();
        for (var i = 0; i < weights.Length; i++)
        {
            rest -= weights[i];
            if (rest < 0)
            {
                return i;
            }
        }

        // Rounding left a crumb.
        return Array.FindLastIndex(weights, w => w > 0);
    }

    // Ids to draw from, likeliest first.
    private static int[] Candidates(double[] weights, SamplingOptions options)
    {
        var all = weights.Sum();
        var cutsByRank = options.TopK > 0 && options.TopK < weights.Length;

        // Tokens below this together have less than 1 - p, so the nucleus never needs them: spares sorting the long tail.
        var floor = cutsByRank ? 0 : all * (1 - options.TopP) / weights.Length;
        var ids = Enumerable.Range(0, weights.Length).Where(i => weights[i] >= floor).ToArray();
        Array.Sort(ids, (a, b) => weights[a] != weights[b] ? weights[b].CompareTo(weights[a]) : a.CompareTo(b));
        if (cutsByRank)
        {
            Array.Resize(ref ids, options.TopK);
            all = ids.Sum(i => weights[i]);
        }

        var (kept, sum) = (0, 0.0);
        while (kept < ids.Length && (options.TopP >= 1 || sum < options.TopP * all))
        {
            sum += weights[ids[kept++]];
        }

        Array.Resize(ref ids, kept);
        return ids;
    }
}
