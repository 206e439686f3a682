using System.Runtime.InteropServices;

namespace LlmPipeline.Text;

/// <summary>
/// Words as lists of symbols, and how often each pair of neighbours occurs in them. A merge touches only the words that hold its
/// pair (Sennrich et al. 2016, with incremental counts). For kinds whose symbols are characters; the order of equally frequent pairs
/// is theirs to say.
/// </summary>
internal sealed class PairLearner
{
    private readonly List<(int[] Symbols, int Length, long Count)> _words = [];
    private readonly Dictionary<(int Left, int Right), Pair> _pairs = [];
    private readonly PriorityQueue<Pair, (long Count, Pair Pair)> _candidates;
    private readonly HashSet<Pair> _grown = [];

    /// <param name="words">Symbols of each word, and its count.</param>
    /// <param name="ties">Order of equally frequent pairs, the first to merge first.</param>
    public PairLearner(IEnumerable<(int[] Symbols, long Count)> words, Comparison<(int Left, int Right)> ties)
    {
        _candidates = new(Comparer<(long Count, Pair Pair)>.Create((a, b) => a.Count != b.Count ? b.Count.CompareTo(a.Count) : ties(a.Pair.Key, b.Pair.Key)));
        foreach (var (symbols, count) in words)
        {
            _words.Add((symbols, symbols.Length, count));
            for (var i = 0; i + 1 < symbols.Length; i++)
            {
                Add(symbols[i], symbols[i + 1], _words.Count - 1);
            }
        }

        PushGrown();
    }

    /// <summary>The most frequent pair; false when none occurs as often as asked.</summary>
    public bool TryFindBest(long minCount, out int left, out int right)
    {
        while (_candidates.TryDequeue(out var pair, out var candidate))
        {
            if (pair.Refused || pair.Count < minCount)
            {
                continue;
            }

            if (pair.Count == candidate.Count)
            {
                (left, right) = pair.Key;
                return true;
            }

            // A grown pair was pushed again then; a shrunken one is now.
            if (pair.Count < candidate.Count)
            {
                _candidates.Enqueue(pair, (pair.Count, pair));
            }
        }

        (left, right) = (0, 0);
        return false;
    }

    /// <summary>Leaves a pair out for good.</summary>
    public void Refuse(int left, int right) => _pairs[(left, right)].Refused = true;

    /// <summary>Replaces a pair by one symbol wherever it occurs, from left to right in each word.</summary>
    public void Apply(int left, int right, int result)
    {
        var pair = _pairs[(left, right)];
        foreach (var w in pair.Words)
        {
            ApplyToWord(w, left, right, result);
        }

        _pairs.Remove((left, right));
        _grown.Remove(pair);
        PushGrown();
    }

    private void ApplyToWord(int w, int left, int right, int result)
    {
        ref var word = ref CollectionsMarshal.AsSpan(_words)[w];
        var symbols = word.Symbols.AsSpan(0, word.Length);
        if (!Holds(symbols, left, right))
        {
            return;
        }

        for (var i = 0; i + 1 < symbols.Length; i++)
        {
            _pairs[(symbols[i], symbols[i + 1])].Count -= word.Count;
        }

        var written = 0;
        for (var i = 0; i < symbols.Length; i++)
        {
            var merges = symbols[i] == left && i + 1 < symbols.Length && symbols[i + 1] == right;
            symbols[written++] = merges ? result : symbols[i];
            i += merges ? 1 : 0;
        }

        word.Length = written;
        for (var i = 0; i + 1 < written; i++)
        {
            Add(symbols[i], symbols[i + 1], w);
        }
    }

    private static bool Holds(ReadOnlySpan<int> symbols, int left, int right)
    {
        for (var i = 0; i + 1 < symbols.Length; i++)
        {
            if (symbols[i] == left && symbols[i + 1] == right)
            {
                return true;
            }
        }

        return false;
    }

    private void Add(int left, int right, int w)
    {
        ref var pair = ref CollectionsMarshal.GetValueRefOrAddDefault(_pairs, (left, right), out _);
        pair ??= new Pair((left, right));
        pair.Count += _words[w].Count;
        if (pair.Words is not [.., var last] || last != w)
        {
            pair.Words.Add(w);
        }

        _grown.Add(pair);
    }

    private void PushGrown()
    {
        foreach (var pair in _grown)
        {
            _candidates.Enqueue(pair, (pair.Count, pair));
        }

        _grown.Clear();
    }

    private sealed class Pair((int Left, int Right) key)
    {
        public (int Left, int Right) Key { get; } = key;

        public long Count { get; set; }

        /// <summary>Words that hold it, or held it once.</summary>
        public List<int> Words { get; } = [];

        public bool Refused { get; set; }
    }
}
