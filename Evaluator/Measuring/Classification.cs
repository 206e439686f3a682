using LlmPipeline.Evaluations.V1;
using LlmPipeline.Models;
using LlmPipeline.Text;

namespace LlmPipeline.Evaluator.Measuring;

/// <summary>Classified documents, counted.</summary>
internal sealed class Classification(IReadOnlyList<string> labels)
{
    // Rows: what a document is; columns: what it was taken for.
    private readonly long[,] _counts = new long[labels.Count, labels.Count];
    private double _lossSum;

    /// <summary>Classifies every document of a split with a classifier.</summary>
    /// <param name="model">Its labels are the dataset's.</param>
    /// <param name="dataset">A dataset with labels.</param>
    /// <param name="split">The documents.</param>
    /// <param name="progress">Called with the share done.</param>
    /// <param name="cancellationToken">Ends the measurement.</param>
    public static Classification Of(LanguageModel model, TokenDataset dataset, TokenSplit split, Action<double>? progress, CancellationToken cancellationToken)
    {
        var classification = new Classification(dataset.Properties.Labels!);
        var scores = new double[model.Config.Classes];
        for (long i = 0; i < split.DocumentCount; i++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var (ids, label) = Document(dataset, split, i);
            model.ClassifyDocument(ids, scores);
            classification.Add(label, scores);
            progress?.Invoke((i + 1.0) / split.DocumentCount);
        }

        return classification;
    }

    /// <summary>Ids and class of a document.</summary>
    public static (int[] Ids, int Label) Document(TokenDataset dataset, TokenSplit split, long index)
    {
        var (start, length) = split.Document(index);
        var ids = new int[length];
        split.Read(start, ids);
        return (ids[..^1], ids[^1] - dataset.Tokenizer.VocabularySize);
    }

    /// <summary>Counts a document by its log-probabilities.</summary>
    public void Add(int label, ReadOnlySpan<double> logProbabilities)
    {
        var best = 0;
        for (var k = 1; k < logProbabilities.Length; k++)
        {
            best = logProbabilities[k] > logProbabilities[best] ? k : best;
        }

        _counts[label, best]++;
        _lossSum -= logProbabilities[label];
    }

    /// <summary>Loss and accuracy, a document counted as one token.</summary>
    public ModelQuality Quality()
    {
        var (count, correct) = (_counts.Cast<long>().Sum(), Enumerable.Range(0, labels.Count).Sum(k => _counts[k, k]));
        return new ModelQuality { TokenCount = count, Loss = _lossSum / count, Perplexity = Math.Exp(_lossSum / count), Accuracy = (double)correct / count };
    }

    /// <summary>The report.</summary>
    /// <param name="majority">The most frequent class of the training split.</param>
    public ClassificationQuality Report(int majority)
    {
        var report = new ClassificationQuality { MajorityLabel = labels[majority] };
        long all = 0, correct = 0;
        for (var k = 0; k < labels.Count; k++)
        {
            long[] row = [.. Enumerable.Range(0, labels.Count).Select(other => _counts[k, other])];
            var taken = Enumerable.Range(0, labels.Count).Sum(other => _counts[other, k]);
            var (precision, recall) = (Share(row[k], taken), Share(row[k], row.Sum()));
            report.Classes.Add(new ClassQuality
            {
                Label = labels[k],
                DocumentCount = row.Sum(),
                Precision = precision,
                Recall = recall,
                F1 = precision + recall > 0 ? 2 * precision * recall / (precision + recall) : 0,
                PredictedCounts = { row },
            });
            all += row.Sum();
            correct += row[k];
        }

        report.Accuracy = Share(correct, all);
        report.MajorityAccuracy = Share(report.Classes[majority].DocumentCount, all);
        report.MacroF1 = report.Classes.Average(c => c.F1);
        return report;
    }

    /// <summary>The most frequent class of a split; of equals the first.</summary>
    public static int Majority(TokenDataset dataset, TokenSplit split)
    {
        var counts = new long[dataset.Properties.Labels!.Count];
        Span<int> last = stackalloc int[1];
        for (long i = 0; i < split.DocumentCount; i++)
        {
            var (start, length) = split.Document(i);
            split.Read(start + length - 1, last);
            counts[last[0] - dataset.Tokenizer.VocabularySize]++;
        }

        return Array.IndexOf(counts, counts.Max());
    }

    private static double Share(long part, long whole) => whole > 0 ? (double)part / whole : 0;
}
