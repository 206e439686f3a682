using System.Numerics;
using System.Runtime.CompilerServices;

namespace LlmPipeline.Text;

/// <summary>Pairs of ids with their counts and the words that hold them, or held them once. Numbered as they come; open addressing over the numbers.</summary>
internal sealed class BpePairs
{
    private ulong[] _keys = new ulong[1 << 12];
    private long[] _counts = new long[1 << 12];
    private (int Start, int Length)[] _listOf = new (int, int)[1 << 12];
    private int[] _slots = new int[1 << 14];
    private int[] _lists = [];
    private int _listsUsed;
    private int _count;

    /// <summary>Room for the lists of words.</summary>
    public int[] Lists => _lists;

    /// <summary>Both ids of a pair as one number, in the order of left ids, then right ids.</summary>
    public static ulong Key(int left, int right) => ((ulong)(uint)left << 32) | (uint)right;

    /// <summary>Occurrences of a pair in the text.</summary>
    public long CountAt(int pair) => _counts[pair];

    /// <summary>Words that hold a pair, or held it once.</summary>
    public ReadOnlySpan<int> WordsOf(int pair) => _lists.AsSpan(_listOf[pair].Start, _listOf[pair].Length);

    /// <summary>The number of a pair that is there.</summary>
    public int Find(int left, int right) => _slots[SlotOf(Key(left, right))] - 1;

    /// <summary>Makes room for the lists of the first pairs, and as much again for those that come later: all that most texts need.</summary>
    public void ReserveLists(long words) => _lists = new int[Math.Min(Array.MaxLength, 2 * words)];

    /// <summary>Adds to the count of a pair, if it is there.</summary>
    public void AddCount(int left, int right, long count)
    {
        var pair = Find(left, right);
        if (pair >= 0)
        {
            _counts[pair] += count;
        }
    }

    /// <summary>Sets what is known of a pair, and makes room for its list.</summary>
    public int Set(int left, int right, long count, int words, out int list)
    {
        if (_listsUsed + (long)words > _lists.Length)
        {
            Array.Resize(ref _lists, (int)Math.Min(Array.MaxLength, Math.Max(_listsUsed + (long)words, _lists.Length + (_lists.Length / 2L))));
        }

        var key = Key(left, right);
        var slot = SlotOf(key);
        var pair = _slots[slot] - 1;
        if (pair < 0)
        {
            pair = Add(key, slot);
        }

        (_counts[pair], _listOf[pair], list) = (count, (_listsUsed, words), _listsUsed);
        _listsUsed += words;
        return pair;
    }

    /// <summary>Forgets count and words of a pair.</summary>
    public void Clear(int pair) => (_counts[pair], _listOf[pair]) = (0, default);

    /// <summary>Forgets count and words of all pairs that hold an id.</summary>
    public void ClearAllOf(int id)
    {
        for (var pair = 0; pair < _count; pair++)
        {
            if ((int)(_keys[pair] >> 32) == id || (int)_keys[pair] == id)
            {
                Clear(pair);
            }
        }
    }

    private int Add(ulong key, int slot)
    {
        if (_count == _keys.Length)
        {
            Array.Resize(ref _keys, 2 * _count);
            Array.Resize(ref _counts, 2 * _count);
            Array.Resize(ref _listOf, 2 * _count);
        }

        _keys[_count] = key;
        _slots[slot] = ++_count;
        if (_count > _slots.Length / 2)
        {
            _slots = new int[2 * _slots.Length];
            for (var pair = 0; pair < _count; pair++)
            {
                _slots[SlotOf(_keys[pair])] = pair + 1;
            }
        }

        return _count - 1;
    }

    // Where a pair is, or would be.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private int SlotOf(ulong key)
    {
        var mask = _slots.Length - 1;
        var slot = (int)((key * 0x9E3779B97F4A7C15) >> (64 - BitOperations.Log2((uint)_slots.Length)));
        while (_slots[slot] != 0 && _keys[_slots[slot] - 1] != key)
        {
            slot = (slot + 1) & mask;
        }

        return slot;
    }
}
