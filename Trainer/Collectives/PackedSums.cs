using System.Buffers.Binary;
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace LlmPipeline.Trainer.Collectives;

/// <summary>
/// int64 sums in the fewest whole bytes that hold them, without loss: for each block of 256, a byte with the width (0 to 8, by the
/// largest magnitude of the block; 0 where all are 0), then so many low bytes of each sum, little-endian.
/// </summary>
internal static class PackedSums
{
    /// <summary>Sums of a block; the last one may be shorter.</summary>
    public const int BlockLength = 256;

    // Whole vectors are stored, so that as many bytes after the last one may be overwritten.
    private const int Slack = 64;

    // For each width, where the bytes of eight sums go, and where they come from.
    private static readonly Vector512<byte>[] Gather = [.. Enumerable.Range(0, 9).Select(width => Indices(k => width == 0 || k >= 8 * width ? 0 : (k / width * 8) + (k % width)))];
    private static readonly Vector512<byte>[] Spread = [.. Enumerable.Range(0, 9).Select(width => Indices(k => (k / 8 * width) + Math.Min(k % 8, Math.Max(0, width - 1))))];

    /// <summary>Room that <see cref="Pack"/> wants for as many sums.</summary>
    public static int MaxBytes(int count) => (count * sizeof(long)) + ((count + BlockLength - 1) / BlockLength) + Slack;

    /// <summary>Packs sums; what comes after them in <paramref name="destination"/> may be overwritten.</summary>
    /// <returns>Bytes that they take.</returns>
    public static int Pack(ReadOnlySpan<long> sums, Span<byte> destination)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(destination.Length, MaxBytes(sums.Length));
        var at = 0;
        for (; sums.Length > 0; sums = sums[Math.Min(BlockLength, sums.Length)..])
        {
            var block = sums[..Math.Min(BlockLength, sums.Length)];
            var width = WidthOf(block);
            destination[at++] = (byte)width;
            if (width > 0)
            {
                PackBlock(block, width, ref destination[at]);
                at += block.Length * width;
            }
        }

        return at;
    }

    /// <summary>Adds packed sums.</summary>
    /// <returns>Bytes that were read.</returns>
    /// <exception cref="InvalidDataException">The bytes are no sums, or there are too few of them.</exception>
    public static int Add(ReadOnlySpan<byte> bytes, Span<long> sums)
    {
        var at = 0;
        for (; sums.Length > 0; sums = sums[Math.Min(BlockLength, sums.Length)..])
        {
            var block = sums[..Math.Min(BlockLength, sums.Length)];
            var width = at < bytes.Length ? bytes[at++] : -1;
            if (width is < 0 or > sizeof(long) || bytes.Length - at < block.Length * width)
            {
                throw new InvalidDataException($"packed sums of width {width} in the last {bytes.Length - at} bytes");
            }

            if (width > 0)
            {
                AddBlock(bytes[at..], width, block);
                at += block.Length * width;
            }
        }

        return at;
    }

    private static int WidthOf(ReadOnlySpan<long> block)
    {
        var (any, magnitude) = (0L, 0L);
        var i = 0;
        if (Vector512.IsHardwareAccelerated)
        {
            ref var sum = ref MemoryMarshal.GetReference(block);
            var (anys, magnitudes) = (Vector512<long>.Zero, Vector512<long>.Zero);
            for (; i + 8 <= block.Length; i += 8)
            {
                var x = Vector512.LoadUnsafe(ref sum, (nuint)i);
                anys |= x;
                magnitudes |= x ^ (x >> 63);
            }

            (any, magnitude) = (AllOf(anys), AllOf(magnitudes));
        }

        for (; i < block.Length; i++)
        {
            any |= block[i];
            magnitude |= block[i] ^ (block[i] >> 63);
        }

        // A sign bit more than the magnitude has.
        return any == 0 ? 0 : ((64 - BitOperations.LeadingZeroCount((ulong)magnitude)) / 8) + 1;
    }

    private static long AllOf(Vector512<long> lanes)
    {
        var four = lanes.GetLower() | lanes.GetUpper();
        var two = four.GetLower() | four.GetUpper();
        return two[0] | two[1];
    }

    private static void PackBlock(ReadOnlySpan<long> block, int width, ref byte to)
    {
        ref var sum = ref MemoryMarshal.GetReference(block);
        var i = 0;
        if (Avx512Vbmi.IsSupported)
        {
            var indices = Gather[width];
            for (; i + 8 <= block.Length; i += 8)
            {
                Avx512Vbmi.PermuteVar64x8(Vector512.LoadUnsafe(ref sum, (nuint)i).AsByte(), indices).StoreUnsafe(ref to, (nuint)(i * width));
            }
        }

        for (; i < block.Length; i++)
        {
            var value = BitConverter.IsLittleEndian ? block[i] : BinaryPrimitives.ReverseEndianness(block[i]);
            Unsafe.WriteUnaligned(ref Unsafe.Add(ref to, i * width), value);
        }
    }

    private static void AddBlock(ReadOnlySpan<byte> bytes, int width, Span<long> sums)
    {
        ref var from = ref MemoryMarshal.GetReference(bytes);
        ref var sum = ref MemoryMarshal.GetReference(sums);
        var shift = 64 - (8 * width);
        var i = 0;
        if (Avx512Vbmi.IsSupported)
        {
            var indices = Spread[width];
            for (; i + 8 <= sums.Length && (i * width) + Vector512<byte>.Count <= bytes.Length; i += 8)
            {
                var packed = Avx512Vbmi.PermuteVar64x8(Vector512.LoadUnsafe(ref from, (nuint)(i * width)), indices).AsInt64();
                (((packed << shift) >> shift) + Vector512.LoadUnsafe(ref sum, (nuint)i)).StoreUnsafe(ref sum, (nuint)i);
            }
        }

        for (; i < sums.Length; i++)
        {
            var begin = i * width;
            long value;
            if (begin + sizeof(long) <= bytes.Length)
            {
                value = BinaryPrimitives.ReadInt64LittleEndian(bytes[begin..]);
            }
            else
            {
                value = 0;
                for (var k = 0; k < width; k++)
                {
                    value |= (long)bytes[begin + k] << (8 * k);
                }
            }

            Unsafe.Add(ref sum, i) += (value << shift) >> shift;
        }
    }

    private static Vector512<byte> Indices(Func<int, int> at) => Vector512.Create([.. Enumerable.Range(0, Vector512<byte>.Count).Select(k => (byte)at(k))]);
}
