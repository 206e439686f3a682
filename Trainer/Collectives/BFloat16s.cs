using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace LlmPipeline.Trainer.Collectives;

/// <summary>fp32 numbers as bfloat16: the upper half of their bits, rounded to nearest, ties to even.</summary>
internal static class BFloat16s
{
    private const int Lanes = 16;

    /// <summary>Writes numbers as 2 bytes each.</summary>
    public static void Encode(ReadOnlySpan<float> values, Span<byte> destination)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(destination.Length, values.Length * sizeof(ushort));
        ref var value = ref Unsafe.As<float, uint>(ref MemoryMarshal.GetReference(values));
        ref var to = ref Unsafe.As<byte, ushort>(ref MemoryMarshal.GetReference(destination));
        nuint i = 0;
        for (; i + Lanes <= (nuint)values.Length; i += Lanes)
        {
            var low = Rounded(Vector256.LoadUnsafe(ref value, i)) >>> 16;
            var high = Rounded(Vector256.LoadUnsafe(ref value, i + 8)) >>> 16;
            Vector256.Narrow(low, high).StoreUnsafe(ref to, i);
        }

        for (; i < (nuint)values.Length; i++)
        {
            Unsafe.Add(ref to, i) = (ushort)(Rounded(Unsafe.Add(ref value, i)) >> 16);
        }
    }

    /// <summary>Reads numbers of 2 bytes each.</summary>
    public static void Decode(ReadOnlySpan<byte> bytes, Span<float> values) => Read(bytes, values, add: false);

    /// <summary>Adds numbers of 2 bytes each.</summary>
    public static void Add(ReadOnlySpan<byte> bytes, Span<float> sums) => Read(bytes, sums, add: true);

    /// <summary>Rounds numbers to what <see cref="Decode"/> gives of them after <see cref="Encode"/>.</summary>
    public static void Round(Span<float> values)
    {
        ref var value = ref Unsafe.As<float, uint>(ref MemoryMarshal.GetReference(values));
        nuint i = 0;
        for (; i + 8 <= (nuint)values.Length; i += 8)
        {
            (Rounded(Vector256.LoadUnsafe(ref value, i)) & Vector256.Create(0xFFFF0000u)).StoreUnsafe(ref value, i);
        }

        for (; i < (nuint)values.Length; i++)
        {
            Unsafe.Add(ref value, i) = Rounded(Unsafe.Add(ref value, i)) & 0xFFFF0000u;
        }
    }

    private static void Read(ReadOnlySpan<byte> bytes, Span<float> values, bool add)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(bytes.Length, values.Length * sizeof(ushort));
        ref var from = ref Unsafe.As<byte, ushort>(ref MemoryMarshal.GetReference(bytes));
        ref var value = ref MemoryMarshal.GetReference(values);
        nuint i = 0;
        for (; i + Lanes <= (nuint)values.Length; i += Lanes)
        {
            var (low, high) = Vector256.Widen(Vector256.LoadUnsafe(ref from, i));
            var (a, b) = ((low << 16).AsSingle(), (high << 16).AsSingle());
            if (add)
            {
                a += Vector256.LoadUnsafe(ref value, i);
                b += Vector256.LoadUnsafe(ref value, i + 8);
            }

            a.StoreUnsafe(ref value, i);
            b.StoreUnsafe(ref value, i + 8);
        }

        for (; i < (nuint)values.Length; i++)
        {
            ref var one = ref Unsafe.Add(ref value, i);
            var x = BitConverter.UInt32BitsToSingle((uint)Unsafe.ReadUnaligned<ushort>(ref Unsafe.As<ushort, byte>(ref Unsafe.Add(ref from, i))) << 16);
            one = add ? one + x : x;
        }
    }

    // A number that is none stays so: its rounding would carry into the sign.
    private static Vector256<uint> Rounded(Vector256<uint> bits)
    {
        var odd = (bits >>> 16) & Vector256<uint>.One;
        var rounded = bits + odd + Vector256.Create(0x7FFFu);
        var isNaN = Vector256.GreaterThan(bits & Vector256.Create(0x7FFFFFFFu), Vector256.Create(0x7F800000u));
        return Vector256.ConditionalSelect(isNaN, bits | Vector256.Create(0x00400000u), rounded);
    }

    private static uint Rounded(uint bits) =>
        (bits & 0x7FFFFFFF) > 0x7F800000 ? bits | 0x00400000 : unchecked(bits + ((bits >> 16) & 1) + 0x7FFF);
}
