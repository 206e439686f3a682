using LlmPipeline.Text.NGrams;

namespace LlmPipeline.Text.Tests.NGrams;

/// <summary>
/// The smoothings as their definitions say, over dictionaries of strings of ids; slow, and written without a look at the trie.
/// A document begins with an end-of-text id that is context only and ends with one that is predicted.
/// </summary>
internal sealed class ReferenceNgrams
{
    private readonly int _vocabulary;
    private readonly NgramOptions _options;
    private readonly Dictionary<string, int> _counts = [];
    private readonly Dictionary<string, int> _continuations = [];
    private readonly Dictionary<(string, int), double> _known = [];

    public ReferenceNgrams(int[] ids, int vocabulary, int endOfText, NgramOptions options)
    {
        (_vocabulary, _options) = (vocabulary, options);
        var document = new List<int> { endOfText };
        foreach (var id in ids)
        {
            document.Add(id);
            if (id == endOfText)
            {
                Count(document);
                document = [endOfText];
            }
        }

        Count(document);
        foreach (var ngram in _counts.Keys.Where(k => Length(k) > 1))
        {
            Add(_continuations, string.Join(' ', ngram.Split(' ')[1..]));
        }

        // What nothing can stand before, and the longest n-grams, keep their counts.
        foreach (var (ngram, count) in _counts.Where(p => Length(p.Key) == options.Order || (Length(p.Key) > 1 && p.Key.Split(' ')[0] == $"{endOfText}")))
        {
            _continuations[ngram] = count;
        }
    }

    public double Probability(int[] context, int id)
    {
        for (var length = Math.Min(context.Length, _options.Order - 1); ; length--)
        {
            var h = context[^length..];
            if (length == 0 || Enumerable.Range(0, _vocabulary).Any(w => _counts.ContainsKey(Key(h, w))))
            {
                return _options.Smoothing switch
                {
                    NgramSmoothing.KneserNey => KneserNey(h, id),
                    NgramSmoothing.GoodTuring => Once("katz " + Key(h, id), 0, () => Katz(h, id)),
                    NgramSmoothing.AddK => (Of(_counts, h, id) + _options.K) / (Sum(_counts, h) + (_options.K * _vocabulary)),
                    _ => Of(_counts, h, id) / Sum(_counts, h),
                };
            }
        }
    }

    private double KneserNey(int[] h, int id)
    {
        var lower = h.Length == 0 ? 1.0 / _vocabulary : KneserNey(h[1..], id);
        var sum = Sum(_continuations, h);
        if (sum == 0)
        {
            return lower;
        }

        var count = Of(_continuations, h, id);
        var freed = Enumerable.Range(0, _vocabulary).Sum(w => Discount(h.Length + 1, Of(_continuations, h, w)));
        return ((count - Discount(h.Length + 1, count)) / sum) + (freed / sum * lower);
    }

    private double Discount(int order, double count)
    {
        double N(int c) => Once("continuations", (order * 10) + c, () => _continuations.Count(p => Length(p.Key) == order && p.Value == c));
        if (count == 0)
        {
            return 0;
        }

        var c = (int)Math.Min(count, 3);
        var y = N(1) / (N(1) + (2 * N(2)));
        var discount = c - ((c + 1) * y * N(c + 1) / N(c));
        return double.IsFinite(discount) && discount > 0 && discount < c ? discount : 0.5 * c;
    }

    private double Katz(int[] h, int id)
    {
        double Lower(int w) => h.Length == 0 ? 1.0 / _vocabulary : Once("katz " + Key(h[1..], w), 0, () => Katz(h[1..], w));
        var sum = Sum(_counts, h);
        if (sum == 0)
        {
            return Lower(id);
        }

        var seen = Enumerable.Range(0, _vocabulary).Where(w => Of(_counts, h, w) > 0).ToArray();
        double Kept(int w) => Of(_counts, h, w) * Ratio(h.Length + 1, Of(_counts, h, w));
        var kept = seen.Sum(Kept);
        if (seen.Length == _vocabulary)
        {
            return Kept(id) / kept;
        }

        sum = sum - kept > sum * 1e-12 ? sum : sum + 1;
        return seen.Contains(id) ? Kept(id) / sum
            : (sum - kept) / sum * Lower(id) / Enumerable.Range(0, _vocabulary).Except(seen).Sum(Lower);
    }

    private double Ratio(int order, double count)
    {
        double N(int c) => Once("counts", (order * 10) + c, () => _counts.Count(p => Length(p.Key) == order && p.Value == c));
        if (count > 5)
        {
            return 1;
        }

        var cut = 6 * N(6) / N(1);
        double Good(int r) => (((r + 1) * N(r + 1) / (r * N(r))) - cut) / (1 - cut);
        return Enumerable.Range(1, 5).All(r => Good(r) is > 0 and < 1) ? Good((int)count) : (count - 0.5) / count;
    }

    private void Count(List<int> document)
    {
        for (var i = 0; i < document.Count; i++)
        {
            for (var n = 1; n <= _options.Order && i + n <= document.Count; n++)
            {
                if (i > 0 || n > 1)
                {
                    Add(_counts, string.Join(' ', document.Skip(i).Take(n)));
                }
            }
        }
    }

    private double Once(string what, int number, Func<double> compute) =>
        _known.TryGetValue((what, number), out var value) ? value : _known[(what, number)] = compute();

    private double Sum(Dictionary<string, int> counts, int[] h) => Enumerable.Range(0, _vocabulary).Sum(w => Of(counts, h, w));

    private static double Of(Dictionary<string, int> counts, int[] h, int id) => counts.GetValueOrDefault(Key(h, id));

    private static string Key(int[] h, int id) => string.Join(' ', h.Append(id));

    private static int Length(string key) => key.Split(' ').Length;

    private static void Add(Dictionary<string, int> counts, string key) => counts[key] = counts.GetValueOrDefault(key) + 1;
}
