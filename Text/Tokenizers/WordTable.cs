using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace LlmPipeline.Text;

/// <summary>
/// A set of byte strings, numbered as they come. Open addressing over 32 bits of hash and the number; the bytes lie one after another
/// in blocks, so that a word costs its bytes and about 30 more, and no object.
/// </summary>
internal sealed class WordTable
{
    private const int BlockBits = 18;
    private const int BlockBytes = 1 << BlockBits;

    // Random, so that no text can be written that makes all words collide. Results do not depend on the order of the table.
    private static readonly ulong Seed = (ulong)Random.Shared.NextInt64() | 1;

    private readonly List<byte[]> _blocks = [];
    private ulong[] _slots = new ulong[1 << 10];
    private Place[] _places = new Place[1 << 9];
    private int _blockUsed = BlockBytes;

    /// <summary>Number of words.</summary>
    public int Count { get; private set; }

    /// <summary>The bytes of a word.</summary>
    public ReadOnlySpan<byte> this[int index] => BytesOf(_places[index]);

    /// <summary>The number of a word, which is added where it is new.</summary>
    public int GetOrAdd(ReadOnlySpan<byte> word, out bool added)
    {
        var hash = Hash(word);
        var slots = _slots;
        var mask = slots.Length - 1;
        for (var i = (int)hash & mask; ; i = (i + 1) & mask)
        {
            var slot = slots[i];
            if (slot == 0)
            {
                added = true;
                return Add(word, hash, i);
            }

            if ((uint)(slot >> 32) == hash && (int)(uint)slot - 1 is var index && BytesOf(_places[index]).SequenceEqual(word))
            {
                added = false;
                return index;
            }
        }
    }

    /// <summary>A hash that differs from process to process.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static uint Hash(ReadOnlySpan<byte> word)
    {
        ref var first = ref MemoryMarshal.GetReference(word);
        ulong a, b;
        switch (word.Length)
        {
            case >= 8:
                a = Unsafe.ReadUnaligned<ulong>(ref first);
                b = Unsafe.ReadUnaligned<ulong>(ref Unsafe.Add(ref first, word.Length - 8));
                if (word.Length > 16)
                {
                    a = HashLong(word, a);
                }

                break;
            case >= 4:
                a = Unsafe.ReadUnaligned<uint>(ref first);
                b = Unsafe.ReadUnaligned<uint>(ref Unsafe.Add(ref first, word.Length - 4));
                break;
            default:
                (a, b) = word.IsEmpty ? (0UL, 0UL) : (word[0] | ((ulong)word[word.Length >> 1] << 8), word[^1]);
                break;
        }

        return Mix(a ^ Seed, b ^ ((ulong)word.Length * 0x9E3779B97F4A7C15));
    }

    private static ulong HashLong(ReadOnlySpan<byte> word, ulong state)
    {
        for (var i = 8; i + 8 < word.Length; i += 8)
        {
            state = (BitOperations.RotateLeft(state, 29) ^ BitConverter.ToUInt64(word[i..]) ^ Seed) * 0xD6E8FEB86659FD93;
            state ^= state >> 32;
        }

        return state;
    }

    private static uint Mix(ulong a, ulong b)
    {
        var high = Math.BigMul(a ^ 0xA0761D6478BD642F, b ^ 0xE7037ED1A0B428DB, out var low);
        var mixed = high ^ low;
        return (uint)(mixed ^ (mixed >> 32));
    }

    private ReadOnlySpan<byte> BytesOf(Place place) => _blocks[place.Block].AsSpan(place.Offset, place.Length);

    private int Add(ReadOnlySpan<byte> word, uint hash, int slot)
    {
        if (_blockUsed + word.Length > BlockBytes)
        {
            // A word longer than a block gets one of its own, which is full at once.
            _blocks.Add(new byte[Math.Max(BlockBytes, word.Length)]);
            _blockUsed = 0;
        }

        if (Count == _places.Length)
        {
            Array.Resize(ref _places, 2 * Count);
        }

        _places[Count] = new Place(_blocks.Count - 1, _blockUsed, word.Length);
        word.CopyTo(_blocks[^1].AsSpan(_blockUsed));
        _blockUsed += word.Length;
        _slots[slot] = ((ulong)hash << 32) | (uint)(Count + 1);
        Count++;
        if (Count > _slots.Length - (_slots.Length >> 2))
        {
            Grow();
        }

        return Count - 1;
    }

    private void Grow()
    {
        var slots = new ulong[2 * _slots.Length];
        foreach (var slot in _slots)
        {
            if (slot == 0)
            {
                continue;
            }

            var i = (int)(slot >> 32) & (slots.Length - 1);
            while (slots[i] != 0)
            {
                i = (i + 1) & (slots.Length - 1);
            }

            slots[i] = slot;
        }

        _slots = slots;
    }

    private readonly record struct Place(int Block, int Offset, int Length);
}
