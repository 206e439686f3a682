namespace LlmPipeline.Text.NGrams;

/// <summary>What a model says of a split.</summary>
/// <param name="PredictionCount">Predicted tokens: all of the split but those before the first prediction.</param>
/// <param name="LossSum">Sum of negative log-likelihoods, in nats; infinite when a prediction had probability 0.</param>
/// <param name="CorrectCount">Tokens whose most likely prediction was right.</param>
/// <param name="ImpossibleCount">Tokens of probability 0.</param>
public sealed record NgramMeasurement(long PredictionCount, double LossSum, long CorrectCount, long ImpossibleCount)
{
    private const int ChunkLength = 1 << 14;

    /// <summary>Cross-entropy in nats a token.</summary>
    public double Loss => LossSum / PredictionCount;

    /// <summary>exp of <see cref="Loss"/>; infinite when a token had probability 0.</summary>
    public double Perplexity => Math.Exp(Loss);

    /// <summary>Measures a model over a split. Chunks are measured in parallel and added in order: the result is the same on any machine.</summary>
    /// <param name="model">The model.</param>
    /// <param name="split">The tokens.</param>
    /// <param name="first">Position of the first prediction: 1, for every token that has one before it; 0 predicts the first token too, as the beginning of a document.</param>
    /// <param name="progress">Called with the share done, by many threads.</param>
    /// <param name="cancellationToken">Ends the measurement.</param>
    public static NgramMeasurement Of(NgramModel model, TokenSplit split, int first = 1, Action<double>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(split);
        var chunks = new NgramMeasurement[Math.Max(0, (split.TokenCount - first + ChunkLength - 1) / ChunkLength)];
        var done = 0;
        ParallelRanges.Run(chunks.Length, chunk =>
        {
            chunks[chunk] = OfChunk(model, split, first + ((long)chunk * ChunkLength));
            progress?.Invoke((double)Interlocked.Increment(ref done) / chunks.Length);
        }, cancellationToken);
        return chunks.Aggregate(new NgramMeasurement(0, 0, 0, 0), (a, b) => new(
            a.PredictionCount + b.PredictionCount, a.LossSum + b.LossSum, a.CorrectCount + b.CorrectCount, a.ImpossibleCount + b.ImpossibleCount));
    }

    private static NgramMeasurement OfChunk(NgramModel model, TokenSplit split, long begin)
    {
        var end = Math.Min(begin + ChunkLength, split.TokenCount);
        var history = (int)Math.Min(begin, model.Order - 1);
        var ids = new int[history + (int)(end - begin)];
        split.Read(begin - history, ids);
        var state = begin == 0 ? model.StateAfter([model.EndOfTextId]) : model.StateAfter(ids.AsSpan(0, history));
        var (loss, correct, impossible) = (0.0, 0L, 0L);
        foreach (var id in ids.AsSpan(history))
        {
            correct += model.MostLikely(state) == id ? 1 : 0;
            state = model.Advance(state, id, out var probability);
            loss -= Math.Log(probability);
            impossible += probability == 0 ? 1 : 0;
        }

        return new NgramMeasurement(end - begin, loss, correct, impossible);
    }
}
