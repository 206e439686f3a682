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
}

/// <summary>Generates ids.</summary>
public static class Generation
{
    /// <summary>
    /// Continues one prompt, token by token, until the end-of-text id (which is not returned), <paramref name="maxTokens"/> or
    /// cancellation. A prompt longer than the context keeps its newest tokens; beyond the context the window slides.
    /// </summary>
    public static IEnumerable<int> Generate(LanguageModel model, IReadOnlyList<int> prompt, int maxTokens, SamplingOptions options, CancellationToken cancellationToken = default)
        => throw new NotImplementedException();

    /// <summary>Continues prompts of equal length greedily, all by exactly <paramref name="tokens"/> ids; prompt and continuation fit the context.</summary>
    public static int[][] GenerateGreedy(LanguageModel model, IReadOnlyList<int[]> prompts, int tokens, CancellationToken cancellationToken = default)
        => throw new NotImplementedException();
}
