using LlmPipeline.Evaluations.V1;
using LlmPipeline.Models;
using LlmPipeline.Text;
using LlmPipeline.Text.NGrams;

namespace LlmPipeline.Evaluator.Measuring;

/// <summary>The Kneser-Ney model that every model has to beat: trained on the dataset's training split, measured on the same predictions.</summary>
internal static class NgramBaseline
{
    /// <summary>Whether a model is that very model already.</summary>
    public static bool Is(ITokenModel model, TokenDataset dataset, int order) =>
        model is NgramTokenModel { Ngrams.Options: { Smoothing: NgramSmoothing.KneserNey } options, TrainedOn: { } trainedOn }
        && options.Order == order && trainedOn == dataset.Properties.Fingerprint;

    /// <summary>Trains and measures the model.</summary>
    public static ModelQuality Measure(
        TokenDataset dataset, TokenSplit split, int order, HeldOutTexts texts, EvaluatorTelemetry telemetry, Progress progress, CancellationToken cancellationToken)
    {
        NgramModel ngrams;
        using (telemetry.StartPhase("ngram train"))
        {
            ngrams = NgramModel.Train(dataset.Split("train"), dataset.Tokenizer.VocabularySize, dataset.Tokenizer.EndOfTextId,
                new NgramOptions { Order = order }, progress.NgramTraining, cancellationToken);
        }

        using var phase = telemetry.StartPhase("ngram loss");
        var quality = SplitLoss.OfNgrams(ngrams, split, progress.Ngram, cancellationToken);
        if (texts.Count > 0)
        {
            using var model = new NgramTokenModel(ngrams, dataset.Properties.Fingerprint);
            quality.Bleu = texts.BleuOf(model, dataset.Tokenizer, progress: null, cancellationToken);
        }

        return quality;
    }
}
