namespace LlmPipeline.Models;

// B = batch, V = vocabulary

/// <summary>Generates ids.</summary>
public static class Generation
{
    /// <summary>
    /// Continues one prompt, token by token, until the end-of-text id (which is not returned), <paramref name="maxTokens"/> or
    /// cancellation. A prompt longer than the context keeps its newest tokens; beyond the context the window slides.
    /// </summary>
    /// <remarks>
    /// An empty prompt begins after an end-of-text id; where a model has a begin-of-text id of its own, every prompt begins with it. When the context is full, the window begins again with its newest half:
    /// positions are learned, so the cache of a slid window would be worth nothing.
    /// </remarks>
    /// <exception cref="ArgumentException">An option is out of range, or an id is not of the vocabulary.</exception>
    /// <exception cref="OperationCanceledException">The generation was cancelled.</exception>
    public static IEnumerable<int> Generate(ITokenModel model, IReadOnlyList<int> prompt, int maxTokens, SamplingOptions options, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(prompt);
        ArgumentNullException.ThrowIfNull(options);
        ArgumentOutOfRangeException.ThrowIfNegative(maxTokens);
        options.Validate();
        return Continue(model, prompt, maxTokens, options, cancellationToken);
    }

    /// <summary>Continues prompts of equal length greedily, all by exactly <paramref name="tokens"/> ids; prompt and continuation fit the context.</summary>
    /// <exception cref="ArgumentException">The prompts are empty or of different length, or do not fit the context with their continuation.</exception>
    public static int[][] GenerateGreedy(ITokenModel model, IReadOnlyList<int[]> prompts, int tokens, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(prompts);
        ArgumentOutOfRangeException.ThrowIfNegative(tokens);
        if (prompts.Count == 0)
        {
            return [];
        }

        var length = prompts[0].Length;
        if (length == 0 || prompts.Any(p => p.Length != length) || length + tokens > model.MaxPositions)
        {
            throw new ArgumentException($"Prompts must have one length, at least 1 and with {tokens} more ids at most the context of {model.MaxPositions}; the first has {length}.", nameof(prompts));
        }

        int batch = prompts.Count, vocabulary = model.VocabularySize;
        var continuations = prompts.Select(_ => new int[tokens]).ToArray();
        var logits_BV = new float[checked(batch * vocabulary)];
        int[] next = [.. prompts.SelectMany(p => p)];
        using var state = model.BeginGeneration(batch);
        for (var t = 0; t < tokens; t++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            state.Append(next, logits_BV);
            next = new int[batch];
            for (var b = 0; b < batch; b++)
            {
                next[b] = continuations[b][t] = Sampler.Greedy(logits_BV.AsSpan(b * vocabulary, vocabulary));
            }
        }

        return continuations;
    }

    private static IEnumerable<int> Continue(ITokenModel model, IReadOnlyList<int> prompt, int maxTokens, SamplingOptions options, CancellationToken cancellationToken)
    {
        var (context, endOfText) = (model.MaxPositions ?? int.MaxValue, model.EndOfTextId);
        var begin = model.BeginOfTextId;
        IReadOnlyList<int> begun = prompt.Count == 0 || (begin != endOfText && prompt[0] != begin) ? [begin, .. prompt] : prompt;
        var window = begun.Skip(begun.Count - context).ToList();
        var logits = new float[model.VocabularySize];
        var state = model.BeginGeneration(1);
        try
        {
            int[] next = [.. window];
            for (var n = 0; n < maxTokens; n++)
            {
                cancellationToken.ThrowIfCancellationRequested();
                state.Append(next, logits);
                var id = Sampler.Sample(logits, options, n);
                if (id == endOfText)
                {
                    yield break;
                }

                yield return id;
                window.Add(id);
                next = [id];
                if (state.Length == context)
                {
                    window.RemoveRange(0, window.Count - Math.Max(1, context / 2));
                    next = [.. window];
                    state.Dispose();
                    state = model.BeginGeneration(1);
                }
            }
        }
        finally
        {
            state.Dispose();
        }
    }
}
