using LlmPipeline.Evaluations.V1;
using LlmPipeline.Models;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Text;
using LlmPipeline.Text.NGrams;

namespace LlmPipeline.Evaluator.Measuring;

// B = batch, T = context, N = tokens of the split

/// <summary>Loss and accuracy over a whole split.</summary>
internal static class SplitLoss
{
    /// <summary>Measures any model.</summary>
    public static ModelQuality Of(ITokenModel model, TokenSplit split, Action<double>? progress, CancellationToken cancellationToken) => model switch
    {
        LanguageModel network => OfNetwork(network, split, progress, cancellationToken),
        NgramTokenModel ngrams => OfNgrams(ngrams.Ngrams, split, progress, cancellationToken),
        _ => throw new ArgumentException($"{model.GetType().Name} cannot be measured.", nameof(model)),
    };

    /// <summary>Measures an n-gram model over every id of a split but the first. The loss is infinite where the model gives an id no probability.</summary>
    public static ModelQuality OfNgrams(NgramModel model, TokenSplit split, Action<double>? progress, CancellationToken cancellationToken)
    {
        RequirePredictions(split);
        var measured = NgramMeasurement.Of(model, split, progress: progress, cancellationToken: cancellationToken);
        var quality = Quality(split, measured.LossSum, measured.CorrectCount, split.TokenCount - 1, Objective.Causal);
        quality.ImpossibleCount = measured.ImpossibleCount;
        return quality;
    }

    /// <summary>
    /// Measures a network: windows of T + 1 ids with stride T, the last one as long as what is left, so that every id but the
    /// first is predicted once; of a masked network windows of T ids, of which those that <see cref="Masking"/> chooses are. Sums are float64, per sequence, added in order: the result does not depend on the batch size.
    /// </summary>
    /// <param name="model">The network.</param>
    /// <param name="split">The tokens.</param>
    /// <param name="progress">Called with the share done.</param>
    /// <param name="cancellationToken">Ends the measurement.</param>
    /// <param name="batch">Sequences computed in one call.</param>
    public static ModelQuality OfNetwork(LanguageModel model, TokenSplit split, Action<double>? progress, CancellationToken cancellationToken, int batch = 16)
    {
        RequirePredictions(split);
        var time = model.Config.Context;
        var masking = Masking.Of(model.Config);
        var predictions = masking is null ? split.TokenCount - 1 : split.TokenCount;
        var windows = (predictions + time - 1) / time;
        var inputs_BT = new int[batch * time];
        var targets_BT = new int[batch * time];
        var losses_B = new double[batch];
        var correct_B = new long[batch];
        var ids_T = new int[time];
        double lossSum = 0;
        long correctCount = 0, count = 0;
        for (long window = 0; window < windows;)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var position = window * time;
            var length = (int)Math.Min(time, predictions - position);
            var rows = length < time ? 1 : (int)Math.Min(batch, (predictions - position) / time);
            for (var b = 0; b < rows; b++)
            {
                var inputs_T = inputs_BT.AsSpan(b * length, length);
                var targets_T = targets_BT.AsSpan(b * length, length);
                if (masking is null)
                {
                    split.Read(position + ((long)b * time), inputs_T);
                    split.Read(position + ((long)b * time) + 1, targets_T);
                    continue;
                }

                split.Read(position + ((long)b * time), ids_T.AsSpan(0, length));
                masking.Apply(ids_T.AsSpan(0, length), Masking.MeasuringSeed(window + b), inputs_T, targets_T);
            }

            count += rows * (long)(masking is null ? length : Masking.CountOf(length));

            model.EvaluateSequences(inputs_BT.AsSpan(0, rows * length), targets_BT.AsSpan(0, rows * length), rows, losses_B.AsSpan(0, rows), correct_B.AsSpan(0, rows));
            for (var b = 0; b < rows; b++)
            {
                lossSum += losses_B[b];
                correctCount += correct_B[b];
            }

            if (!double.IsFinite(lossSum))
            {
                throw new EvaluationException(ErrorReasons.LossNotFinite,
                    $"The loss is {lossSum} within tokens {position} to {position + ((long)rows * length)} of the split: the model is broken. Evaluate an earlier checkpoint.");
            }

            window += rows;
            progress?.Invoke((double)window / windows);
        }

        return Quality(split, lossSum, correctCount, count, model.Config.Objective);
    }

    /// <summary>Puts sums into the numbers of the report.</summary>
    /// <param name="split">The tokens.</param>
    /// <param name="lossSum">Nats over all predictions.</param>
    /// <param name="correctCount">Right predictions.</param>
    /// <param name="predictions">All predictions.</param>
    /// <param name="objective">What they are.</param>
    private static ModelQuality Quality(TokenSplit split, double lossSum, long correctCount, long predictions, Objective objective)
    {
        var loss = lossSum / predictions;
        return new ModelQuality
        {
            TokenCount = predictions,
            Loss = loss,
            Perplexity = Math.Exp(loss),
            BitsPerByte = objective == Objective.Causal && split.ByteCount > 0 ? lossSum / Math.Log(2) / split.ByteCount : 0,
            Accuracy = (double)correctCount / predictions,
            Objective = objective == Objective.Masked ? "masked" : "causal",
        };
    }

    /// <exception cref="EvaluationException">The split has nothing to predict.</exception>
    private static void RequirePredictions(TokenSplit split)
    {
        if (split.TokenCount < 2)
        {
            throw new EvaluationException(ErrorReasons.InvalidSpec, $"The split has {split.TokenCount} tokens; at least 2 are needed to predict one. Use more text, or a larger split fraction.");
        }
    }
}
