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
