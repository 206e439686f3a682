namespace LlmPipeline.Text.NGrams;

/// <summary>
/// An n-gram model over token ids: the probability of an id from how often it followed the ids before it. A context that was
/// never followed by anything counts as the longest ending of it that was. Documents are apart, as
/// <see cref="NgramCounts"/> says. Safe for use from many threads.
/// </summary>
public sealed class NgramModel
{
    private readonly NgramTrie _trie;
    private readonly double[] _probabilities;
    private readonly double[] _backoffs;
    private readonly bool _unseenAreEqual;
    private readonly Lazy<int[]> _mostLikely;
    private readonly Lazy<int[]> _unigrams;

    /// <summary>Makes a model of counts.</summary>
    /// <param name="counts">The counts; their order is the model's.</param>
    /// <param name="options">How counts become probabilities.</param>
    /// <param name="cancellationToken">Ends it.</param>
    /// <exception cref="ArgumentException">The options are out of range, or of another order.</exception>
    public NgramModel(NgramCounts counts, NgramOptions options, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(counts);
        ArgumentNullException.ThrowIfNull(options);
        options.Validate();
        if (options.Order != counts.Order)
        {
            throw new ArgumentException($"The counts are of order {counts.Order}; the options say {options.Order}.", nameof(options));
        }

        (Counts, Options, _trie) = (counts, options, counts.Trie);
        (_probabilities, _backoffs) = NgramEstimate.Of(counts, options, cancellationToken);
        _unseenAreEqual = options.Smoothing is NgramSmoothing.AddK or NgramSmoothing.MaximumLikelihood;
        _mostLikely = new(() =>
        {
            var none = new int[_trie.ContextCount];
            Array.Fill(none, -1);
            return none;
        });
        _unigrams = new(() => [.. Children(0).OrderByDescending(node => _probabilities[node])]);
    }

    /// <summary>What was counted.</summary>
    public NgramCounts Counts { get; }

    /// <summary>How counts became probabilities.</summary>
    public NgramOptions Options { get; }

    /// <summary>Longest n-gram.</summary>
    public int Order => Options.Order;

    /// <summary>Number of ids.</summary>
    public int VocabularySize => Counts.VocabularySize;

    /// <summary>Id between documents.</summary>
    public int EndOfTextId => Counts.EndOfTextId;

    /// <summary>Counts the n-grams of a split and makes a model of them.</summary>
    /// <param name="split">The tokens.</param>
    /// <param name="vocabularySize">Number of ids.</param>
    /// <param name="endOfTextId">Id between documents.</param>
    /// <param name="options">Order and smoothing.</param>
    /// <param name="progress">Called with the share done, by many threads.</param>
    /// <param name="cancellationToken">Ends the training.</param>
    /// <exception cref="ArgumentException">The options are out of range, or the text has more tokens or n-grams than can be counted.</exception>
    /// <exception cref="InvalidDataException">The split is empty, or has an id that is not of the vocabulary.</exception>
    public static NgramModel Train(
        TokenSplit split, int vocabularySize, int endOfTextId, NgramOptions options, Action<double>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.Validate();
        var counts = NgramCounts.Of(split, vocabularySize, endOfTextId, options.Order, share => progress?.Invoke(0.9 * share), cancellationToken);
        var model = new NgramModel(counts, options, cancellationToken);
        progress?.Invoke(1);
        return model;
    }

    /// <summary>The state after some ids: what the model knows of them. 0 is the state after nothing.</summary>
    /// <param name="context">The ids; the newest <see cref="Order"/> - 1 count.</param>
    public int StateAfter(ReadOnlySpan<int> context)
    {
        var state = 0;
        foreach (var id in context[Math.Max(0, context.Length - Order + 1)..])
        {
            state = Advance(state, id, out _);
        }

        return state;
    }

    /// <summary>Goes on by one id.</summary>
    /// <param name="state">The state before it.</param>
    /// <param name="id">The id.</param>
    /// <param name="probability">Its probability after that state; 0 where the smoothing allows for nothing unseen.</param>
    /// <returns>The state after it.</returns>
    public int Advance(int state, int id, out double probability)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)id, (uint)VocabularySize, nameof(id));
        probability = -1;
        var weight = 1.0;
        for (var context = state; ; context = _trie.Suffixes[context])
        {
            var node = _trie.Find(context, id);
            if (node >= 0)
            {
                probability = probability < 0 ? weight * _probabilities[node] : probability;
                return node < _trie.ContextCount ? node : _trie.Suffixes[node];
            }

            weight *= _backoffs[context];
            if (probability < 0 && (context == 0 || (_unseenAreEqual && _trie.HasChildren(context))))
            {
                probability = weight / VocabularySize;
            }

            if (context == 0)
            {
                return 0;
            }
        }
    }

    /// <summary>Natural logarithm of the probability of an id after some ids; minus infinity where it is 0.</summary>
    /// <param name="context">The ids before it; the newest <see cref="Order"/> - 1 count.</param>
    /// <param name="id">The id.</param>
    public double LogProbability(ReadOnlySpan<int> context, int id)
    {
        Advance(StateAfter(context), id, out var probability);
        return Math.Log(probability);
    }

    /// <summary>The probabilities of all ids after a state; they add up to 1.</summary>
    /// <param name="state">The state.</param>
    /// <param name="probabilities">Receives them; as long as the vocabulary.</param>
    public void Distribution(int state, Span<double> probabilities)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(probabilities.Length, VocabularySize);
        Span<int> contexts = stackalloc int[Order];
        Span<double> weights = stackalloc double[Order];
        var (length, weight) = (0, 1.0);
        for (var context = state; ; context = _trie.Suffixes[context])
        {
            (contexts[length], weights[length++]) = (context, weight);
            weight *= _backoffs[context];
            if (context == 0 || (_unseenAreEqual && _trie.HasChildren(context)))
            {
                break;
            }
        }

        // What is known after a longer context takes the place of what is known after a shorter one.
        probabilities.Fill(weight / VocabularySize);
        while (--length >= 0)
        {
            for (var node = _trie.FirstChild[contexts[length]]; node < _trie.FirstChild[contexts[length] + 1]; node++)
            {
                probabilities[_trie.Ids[node]] = weights[length] * _probabilities[node];
            }
        }
    }

    /// <summary>Entropy of the next id after a state, in nats.</summary>
    public double Entropy(int state)
    {
        var probabilities = new double[VocabularySize];
        Distribution(state, probabilities);
        return -probabilities.Sum(p => p > 0 ? p * Math.Log(p) : 0);
    }

    /// <summary>The most likely id after a state; of equally likely ones the smallest. Kept, so that it costs little to ask again.</summary>
    public int MostLikely(int state)
    {
        while (state != 0 && !_trie.HasChildren(state))
        {
            state = _trie.Suffixes[state];
        }

        var known = _mostLikely.Value[state];
        return known >= 0 ? known : _mostLikely.Value[state] = FindMostLikely(state);
    }

    private int FindMostLikely(int state)
    {
        var (best, probability) = (-1, -1.0);
        foreach (var node in Children(state))
        {
            if (_probabilities[node] > probability)
            {
                (best, probability) = (_trie.Ids[node], _probabilities[node]);
            }
        }

        if (_unseenAreEqual)
        {
            return best;
        }

        // What was not seen has at most its probability after the shorter context times the back-off.
        var weight = 1.0;
        for (var context = state; context != 0;)
        {
            weight *= _backoffs[context];
            context = _trie.Suffixes[context];
            var likely = MostLikely(context);
            Try(likely);
            Advance(context, likely, out var most);
            if (weight * most < probability || (context == _trie.Suffixes[state] && _trie.Find(state, likely) < 0))
            {
                return best;
            }

            foreach (var node in context == 0 ? _unigrams.Value : Children(context))
            {
                if (weight * _probabilities[node] >= probability)
                {
                    Try(_trie.Ids[node]);
                }
                else if (context == 0)
                {
                    break;
                }
            }
        }

        // What the text does not have at all is left, each as likely as the other.
        for (var id = 0; id < VocabularySize && weight * _backoffs[0] / VocabularySize >= probability; id++)
        {
            Try(id);
        }

        return best;

        void Try(int id)
        {
            Advance(state, id, out var exact);
            if (exact > probability || (exact == probability && id < best))
            {
                (best, probability) = (id, exact);
            }
        }
    }

    private IEnumerable<int> Children(int context) => Enumerable.Range(_trie.FirstChild[context], _trie.FirstChild[context + 1] - _trie.FirstChild[context]);
}
