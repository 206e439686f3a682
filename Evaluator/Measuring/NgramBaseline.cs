using LlmPipeline.Evaluations.V1;
using LlmPipeline.Text;
using LlmPipeline.Text.NGrams;

namespace LlmPipeline.Evaluator.Measuring;

/// <summary>The n-gram model that a network has to beat: trained on the dataset's training split, measured on the same predictions.</summary>
internal static class NgramBaseline
{
    private const int ChunkLength = 1 << 14;

    /// <summary>Trains and measures an interpolated Kneser-Ney model.</summary>
    public static ModelQuality Measure(
        TokenDataset dataset, TokenSplit split, int order, HeldOutTexts texts, EvaluatorTelemetry telemetry, Progress progress, CancellationToken cancellationToken)
    {
        SplitLoss.RequirePredictions(split);
        KneserNeyModel model;
        using (telemetry.StartPhase("ngram train"))
        {
            model = KneserNeyModel.Train(dataset.Split("train"), dataset.Tokenizer.VocabularySize, order, progress.NgramTraining, cancellationToken);
        }

        using var phase = telemetry.StartPhase("ngram loss");
        var quality = Measure(model, split, order, progress.Ngram, cancellationToken);
        if (texts.Count > 0)
        {
            quality.Bleu = texts.BleuOf(model, dataset.Tokenizer, cancellationToken);
        }

        return quality;
    }

    /// <summary>Measures a model over every id of a split but the first. Chunks are measured in parallel and added in order.</summary>
    public static ModelQuality Measure(KneserNeyModel model, TokenSplit split, int order, Action<double>? progress, CancellationToken cancellationToken)
    {
        var chunks = (int)((split.TokenCount - 1 + ChunkLength - 1) / ChunkLength);
        var losses = new double[chunks];
        var correct = new long[chunks];
        var done = 0;
        Parallel.For(0, chunks, new ParallelOptions { CancellationToken = cancellationToken }, chunk =>
        {
            var begin = 1 + ((long)chunk * ChunkLength);
            var end = Math.Min(begin + ChunkLength, split.TokenCount);
            var history = (int)Math.Min(begin, order - 1);
            var ids = new int[history + (int)(end - begin)];
            split.Read(begin - history, ids);
            for (var i = history; i < ids.Length; i++)
            {
                var context = ids.AsSpan(Math.Max(0, i - order + 1), Math.Min(i, order - 1));
                losses[chunk] -= model.LogProbability(context, ids[i]);
                correct[chunk] += model.MostLikely(context) == ids[i] ? 1 : 0;
            }

            progress?.Invoke((double)Interlocked.Increment(ref done) / chunks);
        });
        return SplitLoss.Quality(split, losses.Sum(), correct.Sum());
    }
}
