using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Text;

/// <summary>
/// Merges words, and remembers them: words of text repeat. Short words are kept in sets of four by a key of 16 bytes that holds the whole word,
/// the newest in place of an older one where a set is full; longer ones in a table, which is emptied when it is full. Memory is bounded (about
/// 5 MB). A word of more than 1 MiB is merged in parts of that size. For one thread at a time.
/// </summary>
internal sealed class BpeEncoder(BpeMerges merges, int[] idOfByte)
{
    /// <summary>Room that <see cref="Encode"/> needs beyond an id a byte.</summary>
    public const int Slack = 4;

    private const int ShortBytes = 15;
    private const int LongBytes = 96;

    // What has no end to its words is no language, and must not take memory without end.
    private const int MaxWordBytes = 1 << 20;

    private const int SetSize = 4;
    private const int InlineIds = 3;
    private const int MaxShortWords = 1 << 16;
    private const int MaxLongWords = 1 << 13;
    private const int MaxPooledIds = 1 << 17;

    private Entry[] _short = new Entry[1 << 9];
    private int _shortCount;
    private WordTable _long = new();
    private readonly List<(int Start, int Count)> _longIds = [];
    private readonly List<int> _pool = [];

    /// <summary>Writes the ids of <c>utf8[start..end]</c>, a word, and returns their number.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public int Encode(ReadOnlySpan<byte> utf8, int start, int end, Span<int> ids)
    {
        var length = end - start;
        if (length > ShortBytes)
        {
            return EncodeLong(utf8[start..end], ids);
        }

        ulong low, high;
        if (start + 16 <= utf8.Length)
        {
            ref var first = ref Unsafe.Add(ref MemoryMarshal.GetReference(utf8), start);
            low = Unsafe.ReadUnaligned<ulong>(ref first);
            high = Unsafe.ReadUnaligned<ulong>(ref Unsafe.Add(ref first, 8));
        }
        else
        {
            (low, high) = Tail(utf8[start..end]);
        }

        // The bytes of the word and its length, and nothing else.
        low &= length >= 8 ? ulong.MaxValue : (1UL << (8 * length)) - 1;
        high = (length > 8 ? high & ((1UL << (8 * (length - 8))) - 1) : 0) | ((ulong)length << 56);
        var set = SetOf(low, high);
        ref var entry = ref Unsafe.Add(ref MemoryMarshal.GetArrayDataReference(_short), set);
        for (var way = 0; way < SetSize; way++, entry = ref Unsafe.Add(ref entry, 1))
        {
            if (entry.Low == low && entry.High == high)
            {
                if (entry.Count <= InlineIds)
                {
                    ref var target = ref MemoryMarshal.GetReference(ids);
                    target = entry.First;
                    Unsafe.Add(ref target, 1) = entry.Second;
                    Unsafe.Add(ref target, 2) = entry.Third;
                    return entry.Count;
                }

                CollectionsMarshal.AsSpan(_pool).Slice(entry.First, entry.Count).CopyTo(ids);
                return entry.Count;
            }
        }

        return EncodeNew(utf8[start..end], low, high, ids);
    }

    private static (ulong Low, ulong High) Tail(ReadOnlySpan<byte> word)
    {
        Span<byte> bytes = stackalloc byte[16];
        bytes.Clear();
        word.CopyTo(bytes);
        return (MemoryMarshal.Read<ulong>(bytes), MemoryMarshal.Read<ulong>(bytes[8..]));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private int SetOf(ulong low, ulong high)
    {
        var hash = ((low * 0x9E3779B97F4A7C15) ^ (high * 0xD6E8FEB86659FD93)) * 0xA0761D6478BD642F;
        return (int)(hash >> 32) & (_short.Length - SetSize);
    }

    private int EncodeNew(ReadOnlySpan<byte> word, ulong low, ulong high, Span<int> ids)
    {
        var count = Merge(word, ids);
        if (_pool.Count > MaxPooledIds)
        {
            Forget();
        }

        if (_shortCount > _short.Length / 2 && _short.Length < MaxShortWords)
        {
            Grow();
        }

        var first = ids[0];
        if (count > InlineIds)
        {
            first = _pool.Count;
            _pool.AddRange(ids[..count]);
        }

        Put(new Entry(low, high, count, first, count > 1 ? ids[1] : 0, count > 2 ? ids[2] : 0));
        return count;
    }

    private int EncodeLong(ReadOnlySpan<byte> word, Span<int> ids)
    {
        if (word.Length > LongBytes)
        {
            return MergeInParts(word, ids);
        }

        if (_long.Count >= MaxLongWords || _pool.Count > MaxPooledIds)
        {
            Forget();
        }

        var index = _long.GetOrAdd(word, out var added);
        if (!added)
        {
            var known = CollectionsMarshal.AsSpan(_pool).Slice(_longIds[index].Start, _longIds[index].Count);
            known.CopyTo(ids);
            return known.Length;
        }

        var count = Merge(word, ids);
        _longIds.Add((_pool.Count, count));
        _pool.AddRange(ids[..count]);
        return count;
    }

    private int MergeInParts(ReadOnlySpan<byte> word, Span<int> ids)
    {
        var count = 0;
        while (!word.IsEmpty)
        {
            var part = word.Length <= MaxWordBytes ? word.Length : Utf8Text.WholeCharacters(word[..MaxWordBytes]);
            count += Merge(word[..part], ids[count..]);
            word = word[part..];
        }

        return count;
    }

    private int Merge(ReadOnlySpan<byte> word, Span<int> ids)
    {
        for (var i = 0; i < word.Length; i++)
        {
            ids[i] = idOfByte[word[i]];
        }

        return merges.Apply(ids[..word.Length]);
    }

    private void Put(Entry entry)
    {
        var set = _short.AsSpan(SetOf(entry.Low, entry.High), SetSize);
        for (var way = 0; way < SetSize; way++)
        {
            if (set[way].Count == 0)
            {
                set[way] = entry;
                _shortCount++;
                return;
            }
        }

        set[(int)(entry.Low % 251) & (SetSize - 1)] = entry;
    }

    private void Grow()
    {
        var old = _short;
        _short = new Entry[2 * old.Length];
        _shortCount = 0;
        foreach (var entry in old)
        {
            if (entry.Count > 0)
            {
                Put(entry);
            }
        }
    }

    private void Forget()
    {
        Array.Clear(_short);
        _shortCount = 0;
        _long = new WordTable();
        _longIds.Clear();
        _pool.Clear();
    }

    /// <param name="Low">First 8 bytes of the word.</param>
    /// <param name="High">Next 7 bytes, and its length in the last one.</param>
    /// <param name="Count">Number of ids; 0 where there is no word.</param>
    /// <param name="First">First id, or where more than three begin in the pool.</param>
    /// <param name="Second">Second id.</param>
    /// <param name="Third">Third id.</param>
    private readonly record struct Entry(ulong Low, ulong High, int Count, int First, int Second, int Third);
}
