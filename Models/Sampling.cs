namespace LlmPipeline.Models;

/// <summary>How the next token is chosen.</summary>
public sealed record SamplingOptions
{
    /// <summary>Divides the logits; 0 is greedy.</summary>
    public double Temperature { get; init; } = 1;

    /// <summary>Keeps the k most likely tokens; 0 keeps all.</summary>
    public int TopK { get; init; }

    /// <summary>Keeps the smallest set of tokens whose probability reaches this.</summary>
    public double TopP { get; init; } = 1;

    /// <summary>Seed; token n of a text is drawn with a number derived from (seed, n).</summary>
    public long Seed { get; init; }

    /// <summary>Throws unless every value can be sampled with.</summary>
    /// <exception cref="ArgumentException">A value is out of range; the message names it.</exception>
    public void Validate()
    {
        if (!(Temperature >= 0) || double.IsInfinity(Temperature))
        {
            throw new ArgumentException($"Temperature is {Temperature}; it must be a number of 0 or more.");
        }

        if (TopK < 0)
        {
            throw new ArgumentException($"TopK is {TopK}; it must be 0 (all tokens) or more.");
        }

        if (!(TopP is > 0 and <= 1))
        {
            throw new ArgumentException($"TopP is {TopP}; it must be more than 0 and at most 1.");
        }
    }
}

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

        var ids = Candidates(weights, options);
        var total = 0.0;
        foreach (var id in ids)
        {
            total += weights[id];
        }

        var draw = Seeds.Uniform(Seeds.Derive(options.Seed, "token", position), 0) * total;
        foreach (var id in ids)
        {
            draw -= weights[id];
            if (draw < 0)
            {
                return id;
            }
        }

        return greedy;
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

    // Ids to draw from; sorted, likeliest first, when a cut needs the order.
    private static int[] Candidates(double[] weights, SamplingOptions options)
    {
        var all = weights.Sum();
        var cutsByRank = options.TopK > 0 && options.TopK < weights.Length;
        if (!cutsByRank && options.TopP >= 1)
        {
            return [.. Enumerable.Range(0, weights.Length)];
        }

        // Tokens below this together have less than 1 - p, so the nucleus never needs them: spares sorting the long tail.
        var floor = options.TopP < 1 && !cutsByRank ? all * (1 - options.TopP) / weights.Length : 0;
        var ids = Enumerable.Range(0, weights.Length).Where(i => weights[i] >= floor).ToArray();
        Array.Sort(ids, (a, b) => weights[a] != weights[b] ? weights[b].CompareTo(weights[a]) : a.CompareTo(b));
        if (cutsByRank)
        {
            Array.Resize(ref ids, Math.Min(options.TopK, ids.Length));
            all = ids.Sum(i => weights[i]);
        }

        if (options.TopP < 1)
        {
            var (kept, sum) = (0, 0.0);
            while (kept < ids.Length && sum < options.TopP * all)
            {
                sum += weights[ids[kept++]];
            }

            Array.Resize(ref ids, kept);
        }

        return ids;
    }
}
