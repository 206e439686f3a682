using System.Runtime.InteropServices;

namespace LlmPipeline.Text;

/// <summary>
/// Words as lists of ids, and how often each pair of neighbours occurs in them. A merge touches only the words that hold its
/// pair (Sennrich et al. 2016, with incremental counts).
/// </summary>
internal sealed class BpeLearner
{
    private readonly List<BpeWord> _words;
    private readonly Dictionary<ulong, int> _indexOfPair = [];
    private readonly List<Pair> _pairs = [];
    private readonly PriorityQueue<int, Candidate> _candidates = new(Comparer<Candidate>.Create(Candidate.Compare));
    private readonly HashSet<int> _grown = [];

    public BpeLearner(List<BpeWord> words)
    {
        _words = words;
        for (var w = 0; w < words.Count; w++)
        {
            var ids = words[w].Ids;
            for (var i = 0; i + 1 < ids.Length; i++)
            {
                Add(ids[i], ids[i + 1], w);
            }
        }

        PushGrown();
    }

    /// <summary>The most frequent pair; of equally frequent ones that with the smallest left id, then the smallest right id. False when none is frequent enough.</summary>
    public bool TryFindBest(long minFrequency, out int left, out int right)
    {
        while (_candidates.TryDequeue(out var index, out var candidate))
        {
            var pair = _pairs[index];
            if (pair.Count == candidate.Count && pair.Count > 0 && pair.Count >= minFrequency)
            {
                (left, right) = ((int)(candidate.Key >> 32), (int)candidate.Key);
                return true;
            }

            // The count has changed since: a grown pair was pushed again then, a shrunken one is now.
            if (pair.Count < candidate.Count && pair.Count > 0)
            {
                _candidates.Enqueue(index, candidate with { Count = pair.Count });
            }
        }

        (left, right) = (0, 0);
        return false;
    }

    /// <summary>Replaces a pair by one id wherever it occurs, from left to right in each word.</summary>
    public void Apply(int left, int right, int result)
    {
        var index = _indexOfPair[Key(left, right)];
        var words = _pairs[index].Words;
        foreach (var w in words)
        {
            ApplyToWord(w, left, right, result);
        }

        ref var pair = ref CollectionsMarshal.AsSpan(_pairs)[index];
        pair = pair with { Count = 0, Words = [] };
        _grown.Remove(index);
        PushGrown();
    }

    /// <summary>Leaves a pair as it is, for good.</summary>
    public void Refuse(int left, int right)
    {
        ref var pair = ref CollectionsMarshal.AsSpan(_pairs)[_indexOfPair[Key(left, right)]];
        pair = pair with { Count = long.MinValue / 2, Words = [] };
    }

    private static ulong Key(int left, int right) => ((ulong)(uint)left << 32) | (uint)right;

    private void ApplyToWord(int w, int left, int right, int result)
    {
        var word = _words[w];
        var ids = word.Ids.AsSpan(0, word.Length);
        var written = 0;
        for (var i = 0; i < ids.Length; i++)
        {
            if (ids[i] != left || i + 1 == ids.Length || ids[i + 1] != right)
            {
                ids[written++] = ids[i];
                continue;
            }

            if (written > 0)
            {
                Remove(ids[written - 1], left, word.Count);
                Add(ids[written - 1], result, w);
            }

            if (i + 2 < ids.Length)
            {
                Remove(right, ids[i + 2], word.Count);
                Add(result, ids[i + 2], w);
            }

            ids[written++] = result;
            i++;
        }

        word.Length = written;
    }

    private void Add(int left, int right, int w)
    {
        ref var index = ref CollectionsMarshal.GetValueRefOrAddDefault(_indexOfPair, Key(left, right), out var exists);
        if (!exists)
        {
            index = _pairs.Count;
            _pairs.Add(new Pair(Key(left, right), 0, []));
        }

        ref var pair = ref CollectionsMarshal.AsSpan(_pairs)[index];
        pair = pair with { Count = pair.Count + _words[w].Count };
        if (pair.Words is not [.., var last] || last != w)
        {
            pair.Words.Add(w);
        }

        _grown.Add(index);
    }

    private void Remove(int left, int right, long count)
    {
        ref var pair = ref CollectionsMarshal.AsSpan(_pairs)[_indexOfPair[Key(left, right)]];
        pair = pair with { Count = pair.Count - count };
    }

    private void PushGrown()
    {
        foreach (var index in _grown)
        {
            _candidates.Enqueue(index, new Candidate(_pairs[index].Count, _pairs[index].Key));
        }

        _grown.Clear();
    }

    /// <param name="Key">Left and right id.</param>
    /// <param name="Count">Occurrences in the text.</param>
    /// <param name="Words">Words that hold it, or held it once.</param>
    private readonly record struct Pair(ulong Key, long Count, List<int> Words);

    private readonly record struct Candidate(long Count, ulong Key)
    {
        public static int Compare(Candidate a, Candidate b) => a.Count != b.Count ? b.Count.CompareTo(a.Count) : a.Key.CompareTo(b.Key);
    }
}

/// <summary>A word of the text.</summary>
internal sealed class BpeWord(int[] ids, long count)
{
    /// <summary>Its ids; the first <see cref="Length"/> count.</summary>
    public int[] Ids { get; } = ids;

    /// <summary>Ids left after merging.</summary>
    public int Length { get; set; } = ids.Length;

    /// <summary>Occurrences in the text.</summary>
    public long Count { get; } = count;
}
