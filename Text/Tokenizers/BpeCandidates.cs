namespace LlmPipeline.Text;

/// <summary>A pair that may be merged next.</summary>
/// <param name="Count">Occurrences when it was added.</param>
/// <param name="Key">Both ids (<see cref="BpePairs.Key"/>): of equal counts the smallest is first.</param>
/// <param name="Pair">Its number.</param>
internal readonly record struct BpeCandidate(long Count, ulong Key, int Pair)
{
    public bool IsBefore(BpeCandidate other) => Count != other.Count ? Count > other.Count : Key < other.Key;
}

/// <summary>A binary heap.</summary>
internal sealed class BpeCandidates
{
    private BpeCandidate[] _heap = new BpeCandidate[1 << 12];
    private int _count;

    public void Add(BpeCandidate candidate)
    {
        if (_count == _heap.Length)
        {
            Array.Resize(ref _heap, 2 * _count);
        }

        var i = _count++;
        while (i > 0 && candidate.IsBefore(_heap[(i - 1) / 2]))
        {
            _heap[i] = _heap[(i - 1) / 2];
            i = (i - 1) / 2;
        }

        _heap[i] = candidate;
    }

    /// <summary>Takes the first; false when there is none.</summary>
    public bool TryTake(out BpeCandidate first)
    {
        if (_count == 0)
        {
            first = default;
            return false;
        }

        first = _heap[0];
        var last = _heap[--_count];
        var i = 0;
        while ((2 * i) + 1 is var child && child < _count)
        {
            if (child + 1 < _count && _heap[child + 1].IsBefore(_heap[child]))
            {
                child++;
            }

            if (!_heap[child].IsBefore(last))
            {
                break;
            }

            _heap[i] = _heap[child];
            i = child;
        }

        _heap[i] = last;
        return true;
    }
}
