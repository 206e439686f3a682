using System.Diagnostics;
using LlmPipeline.Evaluations.V1;

namespace LlmPipeline.Evaluator.Measuring;

/// <summary>Turns the shares of the phases into the share of the whole, and tells the record about four times a second.</summary>
internal sealed class Progress
{
    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(250);

    private readonly EvaluationCatalog _catalog;
    private readonly string _id;
    private long _last;

    public Progress(EvaluationCatalog catalog, string id, EvaluationRequestSpec spec)
    {
        (_catalog, _id) = (catalog, id);
        // About how the time divides between the phases; those that are left out take none.
        double model = 10, bleu = spec.BleuSamples > 0 ? 1 : 0, train = spec.NgramOrder > 0 ? 2 : 0, measure = spec.NgramOrder > 0 ? 3 : 0;
        var total = model + bleu + train + measure;
        Model = share => Report(model * share / total);
        ModelBleu = share => Report((model + (bleu * share)) / total);
        NgramTraining = share => Report((model + bleu + (train * share)) / total);
        Ngram = share => Report((model + bleu + train + (measure * share)) / total);
    }

    public Action<double> Model { get; }

    public Action<double> ModelBleu { get; }

    public Action<double> NgramTraining { get; }

    public Action<double> Ngram { get; }

    private void Report(double fraction)
    {
        var last = Interlocked.Read(ref _last);
        if ((last == 0 || Stopwatch.GetElapsedTime(last) > Interval) && Interlocked.CompareExchange(ref _last, Stopwatch.GetTimestamp(), last) == last)
        {
            _ = _catalog.Records.UpdateAsync(_id, e =>
            {
                var isNews = e.State == Evaluation.Types.State.Running && fraction > e.Fraction;
                e.Fraction = isNews ? fraction : e.Fraction;
                return isNews;
            }, durable: false);
        }
    }
}
