namespace LlmPipeline.Text;

/// <summary>
/// Words as runs of ids, and how often each pair of neighbours occurs in them. A merge touches only the words that hold its pair (Sennrich et
/// al. 2016, with incremental counts). All pairs that a merge makes hold its new id, so that their counts and lists of words are whole when it
/// is done: they are kept in arrays by the neighbour meanwhile, and only those that are frequent enough are kept at all.
/// </summary>
internal sealed class BpeLearner
{
    private readonly BpeWords _words;
    private readonly BpePairs _pairs = new();
    private readonly BpeCandidates _candidates = new();
    private readonly int _firstByte;
    private readonly long _minFrequency;
    private readonly FreshPairs _before;
    private readonly FreshPairs _after;

    /// <param name="words">Changed by merging.</param>
    /// <param name="firstByte">First of the 256 ids that bytes have.</param>
    /// <param name="ids">Number of ids that there can be.</param>
    /// <param name="minFrequency">Occurrences below which a pair is not merged.</param>
    public BpeLearner(BpeWords words, int firstByte, int ids, long minFrequency)
    {
        _words = words;
        _firstByte = firstByte;
        _minFrequency = Math.Max(1, minFrequency);
        _before = new FreshPairs(ids);
        _after = new FreshPairs(ids);
        CountAll();
    }

    /// <summary>The most frequent pair; of equally frequent ones that with the smallest left id, then the smallest right id. False when none is frequent enough.</summary>
    public bool TryFindBest(out int left, out int right)
    {
        while (_candidates.TryTake(out var candidate))
        {
            // Where the count has changed since, the pair is a candidate again with the new one.
            var count = _pairs.CountAt(candidate.Pair);
            if (count == candidate.Count)
            {
                (left, right) = ((int)(candidate.Key >> 32), (int)candidate.Key);
                return true;
            }

            if (count < candidate.Count && count >= _minFrequency)
            {
                _candidates.Add(candidate with { Count = count });
            }
        }

        (left, right) = (0, 0);
        return false;
    }

    /// <summary>Leaves the best pair as it is.</summary>
    public void Refuse(int left, int right) => _pairs.Clear(_pairs.Find(left, right));

    /// <summary>Replaces the best pair by an id wherever it occurs, from left to right in each word.</summary>
    /// <param name="left">Left id.</param>
    /// <param name="right">Right id.</param>
    /// <param name="result">Id of both.</param>
    /// <param name="isNew">No word has this id yet.</param>
    public void Apply(int left, int right, int result, bool isNew)
    {
        var pair = _pairs.Find(left, right);
        foreach (var word in _pairs.WordsOf(pair))
        {
            ApplyToWord(word, left, right, result);
        }

        _pairs.Clear(pair);
        if (!isNew)
        {
            CountAnew(result);
        }

        Keep(_before, result, isLeft: false);
        Keep(_after, result, isLeft: true);
    }

    private void ApplyToWord(int word, int left, int right, int result)
    {
        var ids = _words.IdsOf(word);
        var count = _words.CountOf(word);
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
                Change(ids[written - 1], left, word, -count, result);
                Change(ids[written - 1], result, word, count, result);
            }

            if (i + 2 < ids.Length)
            {
                Change(right, ids[i + 2], word, -count, result);
                Change(result, ids[i + 2], word, count, result);
            }

            ids[written++] = result;
            i++;
        }

        _words.Shorten(word, written);
    }

    private void Change(int left, int right, int word, long count, int result)
    {
        if (right == result)
        {
            _before.Add(left, word, count);
        }
        else if (left == result)
        {
            _after.Add(right, word, count);
        }
        else
        {
            _pairs.AddCount(left, right, count);
        }
    }

    // Two pairs have made the same id: what is known of its pairs is only of the later ones.
    private void CountAnew(int id)
    {
        _before.Clear();
        _after.Clear();
        _pairs.ClearAllOf(id);
        for (var word = 0; word < _words.Count; word++)
        {
            var ids = _words.IdsOf(word);
            for (var i = 0; i + 1 < ids.Length; i++)
            {
                if (ids[i] == id || ids[i + 1] == id)
                {
                    Change(ids[i], ids[i + 1], word, _words.CountOf(word), id);
                }
            }
        }
    }

    private void Keep(FreshPairs fresh, int id, bool isLeft)
    {
        foreach (var neighbour in fresh.Neighbours)
        {
            var count = fresh.CountOf(neighbour);
            if (count < _minFrequency)
            {
                continue;
            }

            var (left, right) = isLeft ? (id, neighbour) : (neighbour, id);
            var pair = _pairs.Set(left, right, count, fresh.OccurrencesOf(neighbour), out var list);
            fresh.PlaceList(neighbour, list);
            _candidates.Add(new BpeCandidate(count, BpePairs.Key(left, right), pair));
        }

        fresh.WriteLists(_pairs.Lists);
        fresh.Clear();
    }

    // All ids are bytes as yet, so that a table of all pairs is small.
    private void CountAll()
    {
        const int Bytes = 256;
        var first = _firstByte;
        var counts = new long[Bytes * Bytes];
        var occurrences = new int[Bytes * Bytes];
        var lastWord = new int[Bytes * Bytes];
        Array.Fill(lastWord, -1);
        for (var word = 0; word < _words.Count; word++)
        {
            var ids = _words.IdsOf(word);
            for (var i = 0; i + 1 < ids.Length; i++)
            {
                var pair = ((ids[i] - first) * Bytes) + ids[i + 1] - first;
                counts[pair] += _words.CountOf(word);
                if (lastWord[pair] != word)
                {
                    lastWord[pair] = word;
                    occurrences[pair]++;
                }
            }
        }

        _pairs.ReserveLists(occurrences.Where((_, pair) => counts[pair] >= _minFrequency).Sum(o => (long)o));
        var next = new int[Bytes * Bytes];
        for (var pair = 0; pair < counts.Length; pair++)
        {
            next[pair] = -1;
            if (counts[pair] >= _minFrequency)
            {
                var (left, right) = (first + (pair / Bytes), first + (pair % Bytes));
                _candidates.Add(new BpeCandidate(counts[pair], BpePairs.Key(left, right), _pairs.Set(left, right, counts[pair], occurrences[pair], out next[pair])));
            }
        }

        Array.Fill(lastWord, -1);
        for (var word = 0; word < _words.Count; word++)
        {
            var ids = _words.IdsOf(word);
            for (var i = 0; i + 1 < ids.Length; i++)
            {
                var pair = ((ids[i] - first) * Bytes) + ids[i + 1] - first;
                if (next[pair] >= 0 && lastWord[pair] != word)
                {
                    lastWord[pair] = word;
                    _pairs.Lists[next[pair]++] = word;
                }
            }
        }
    }

    /// <summary>The pairs of a new id, by the id beside it.</summary>
    private sealed class FreshPairs
    {
        private readonly List<int> _neighbours = [];
        private readonly List<(int Neighbour, int Word)> _occurrences = [];
        private readonly long[] _counts;
        private readonly int[] _occurrenceCounts;
        private readonly int[] _lists;
        private readonly int[] _lastWord;

        public FreshPairs(int ids)
        {
            (_counts, _occurrenceCounts, _lists, _lastWord) = (new long[ids], new int[ids], new int[ids], new int[ids]);
            Array.Fill(_lastWord, -1);
            Array.Fill(_lists, -1);
        }

        public List<int> Neighbours => _neighbours;

        public long CountOf(int neighbour) => _counts[neighbour];

        public int OccurrencesOf(int neighbour) => _occurrenceCounts[neighbour];

        public void Add(int neighbour, int word, long count)
        {
            _counts[neighbour] += count;
            if (_lastWord[neighbour] == word)
            {
                return;
            }

            if (_lastWord[neighbour] < 0)
            {
                _neighbours.Add(neighbour);
            }

            _lastWord[neighbour] = word;
            _occurrenceCounts[neighbour]++;
            _occurrences.Add((neighbour, word));
        }

        public void PlaceList(int neighbour, int list) => _lists[neighbour] = list;

        public void WriteLists(int[] lists)
        {
            foreach (var (neighbour, word) in _occurrences)
            {
                if (_lists[neighbour] >= 0)
                {
                    lists[_lists[neighbour]++] = word;
                }
            }
        }

        public void Clear()
        {
            foreach (var neighbour in _neighbours)
            {
                (_counts[neighbour], _occurrenceCounts[neighbour], _lists[neighbour], _lastWord[neighbour]) = (0, 0, -1, -1);
            }

            _neighbours.Clear();
            _occurrences.Clear();
        }
    }
}
