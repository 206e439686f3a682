using System.Buffers;
using System.Numerics;

namespace LlmPipeline.Text;

/// <summary>The merges of a byte-pair encoding: which two neighbouring ids become which one, the earliest learned first.</summary>
internal sealed class BpeMerges
{
    // Above this the quadratic search for the best pair gives way to a heap: one hostile word can be a megabyte long.
    private const int LongWord = 96;

    private readonly Slot[] _slots;
    private readonly int _shift;
    private readonly int[] _results;

    /// <param name="merges">Left id, right id, resulting id; in order of rank. A pair that comes twice keeps its first rank.</param>
    public BpeMerges(IReadOnlyList<BpeMerge> merges)
    {
        _slots = new Slot[BitOperations.RoundUpToPowerOf2((uint)Math.Max(16, 2 * merges.Count))];
        _shift = 64 - BitOperations.Log2((uint)_slots.Length);
        Array.Fill(_slots, new Slot(ulong.MaxValue, int.MaxValue));
        _results = new int[merges.Count];
        for (var rank = 0; rank < merges.Count; rank++)
        {
            ref var slot = ref SlotOf(merges[rank].Left, merges[rank].Right);
            if (slot.Rank == int.MaxValue)
            {
                slot = new Slot(Key(merges[rank].Left, merges[rank].Right), rank);
            }

            _results[rank] = merges[rank].Result;
        }
    }

    /// <summary>Merges ids in place, the lowest rank first and from left to right, and returns how many are left.</summary>
    public int Apply(Span<int> ids)
    {
        if (ids.Length < 2)
        {
            return ids.Length;
        }

        return ids.Length > LongWord ? ApplyLong(ids) : ApplyShort(ids);
    }

    private static ulong Key(int left, int right) => ((ulong)(uint)left << 32) | (uint)right;

    private int RankOf(int left, int right) => SlotOf(left, right).Rank;

    // Where a pair is, or would be.
    private ref Slot SlotOf(int left, int right)
    {
        var key = Key(left, right);
        var slots = _slots;
        var i = (int)((key * 0x9E3779B97F4A7C15) >> _shift);
        while (slots[i].Key != key && slots[i].Key != ulong.MaxValue)
        {
            i = (i + 1) & (slots.Length - 1);
        }

        return ref slots[i];
    }

    private int ApplyShort(Span<int> ids)
    {
        Span<int> ranks = stackalloc int[LongWord];
        var count = ids.Length;
        for (var i = 0; i + 1 < count; i++)
        {
            ranks[i] = RankOf(ids[i], ids[i + 1]);
        }

        while (count > 1)
        {
            var best = 0;
            for (var i = 1; i + 1 < count; i++)
            {
                best = ranks[i] < ranks[best] ? i : best;
            }

            if (ranks[best] == int.MaxValue)
            {
                break;
            }

            ids[best] = _results[ranks[best]];
            ids[(best + 2)..count].CopyTo(ids[(best + 1)..]);
            if (best + 2 < count)
            {
                ranks[(best + 2)..(count - 1)].CopyTo(ranks[(best + 1)..]);
            }

            count--;
            if (best > 0)
            {
                ranks[best - 1] = RankOf(ids[best - 1], ids[best]);
            }

            if (best + 1 < count)
            {
                ranks[best] = RankOf(ids[best], ids[best + 1]);
            }
        }

        return count;
    }

    // A doubly linked list over the positions, and a heap of (rank, position); an entry whose pair has changed since is void.
    private int ApplyLong(Span<int> ids)
    {
        var count = ids.Length;
        var links = ArrayPool<int>.Shared.Rent(2 * count);
        var next = links.AsSpan(0, count);
        var previous = links.AsSpan(count, count);
        var heap = new PriorityQueue<int, (int Rank, int Position)>(count);
        for (var i = 0; i < count; i++)
        {
            (previous[i], next[i]) = (i - 1, i + 1);
            Push(ids, next, i);
        }

        while (heap.TryDequeue(out var i, out var entry))
        {
            // A removed position points to itself.
            if (next[i] == i || next[i] >= count || RankOf(ids[i], ids[next[i]]) != entry.Rank)
            {
                continue;
            }

            var removed = next[i];
            ids[i] = _results[entry.Rank];
            next[i] = next[removed];
            next[removed] = removed;
            if (next[i] < count)
            {
                previous[next[i]] = i;
                Push(ids, next, i);
            }

            if (previous[i] >= 0)
            {
                Push(ids, next, previous[i]);
            }
        }

        var written = 0;
        for (var i = 0; i < count; i = next[i])
        {
            ids[written++] = ids[i];
        }

        ArrayPool<int>.Shared.Return(links);
        return written;

        void Push(Span<int> ids, Span<int> next, int i)
        {
            if (next[i] < count && RankOf(ids[i], ids[next[i]]) is var rank && rank != int.MaxValue)
            {
                heap.Enqueue(i, (rank, i));
            }
        }
    }

    private readonly record struct Slot(ulong Key, int Rank);
}

/// <summary>One merge.</summary>
/// <param name="Left">Id on the left.</param>
/// <param name="Right">Id on the right.</param>
/// <param name="Result">Id that replaces both.</param>
internal readonly record struct BpeMerge(int Left, int Right, int Result);
