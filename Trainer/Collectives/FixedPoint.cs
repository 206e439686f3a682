using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace LlmPipeline.Trainer.Collectives;

/// <summary>
/// fp32 numbers as int64 multiples of 2^-44. Sums of such integers do not depend on order, so that neither the number of workers
/// nor who computed what shows in a sum of gradients.
/// </summary>
internal static class FixedPoint
{
    /// <summary>Fractional bits.</summary>
    public const int FractionBits = 44;

    /// <summary>Largest magnitude of one addend; a gradient beyond it means that the loss exploded.</summary>
    public const float AddendLimit = 131072; // 2^17

    private const double Scale = 1L << FractionBits;
    private const double InverseScale = 1.0 / Scale;

    // Adding 1.5 * 2^52 leaves the rounded integer in the low bits of a double, for magnitudes up to 2^51.
    private const double RoundingMagic = 6755399441055744.0;
    private const float MagicLimit = 64; // 2^6 * 2^44 = 2^50

    // Numbers that are looked at twice, the second time in the processor's cache.
    private const int CacheLength = 2048;

    /// <summary>The magnitude that each of <paramref name="addends"/> numbers may have so that no sum of them leaves int64.</summary>
    public static float LimitFor(int addends) => Math.Min(AddendLimit, 524288f / Math.Max(1, addends));

    /// <summary>
    /// Adds numbers, rounded to the nearest multiple of 2^-44 (ties to even), to sums, and sets the numbers to 0.
    /// </summary>
    /// <param name="values">The addends; all 0 afterwards.</param>
    /// <param name="sums">As many sums.</param>
    /// <param name="overwrite">The sums are set instead of added to.</param>
    /// <param name="limit">Magnitudes have to be below it, see <see cref="LimitFor"/>.</param>
    /// <returns>False when a number is not finite or not below the limit; the sums are useless then.</returns>
    public static bool AddAndClear(Span<float> values, Span<long> sums, bool overwrite, float limit)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(sums.Length, values.Length);
        var inside = true;
        for (; values.Length > 0; values = values[Math.Min(CacheLength, values.Length)..], sums = sums[Math.Min(CacheLength, sums.Length)..])
        {
            var part = values[..Math.Min(CacheLength, values.Length)];
            inside &= Add(part, sums[..part.Length], overwrite, limit);
            part.Clear();
        }

        return inside;
    }

    /// <summary>The same for as many numbers as the processor's cache holds, which stay.</summary>
    public static bool Add(ReadOnlySpan<float> values, Span<long> sums, bool overwrite, float limit)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(sums.Length, values.Length);
        var done = Avx512DQ.IsSupported ? Add512(values, sums, overwrite, limit)
            : Vector256.IsHardwareAccelerated ? Add256(values, sums, overwrite, limit)
            : 0;
        return done >= 0 && AddScalar(values[done..], sums[done..], overwrite, limit);
    }

    /// <summary>
    /// Rounds numbers as <see cref="Add"/> and <see cref="ToSingle"/> would, in place: a product with 2^44 is exact in float64, and so
    /// is what comes back, because a multiple of 2^-44 that a number with 24 bits rounds to has no more bits.
    /// </summary>
    /// <returns>False when a number is not finite or not below the limit; the numbers are useless then.</returns>
    public static bool Round(Span<float> values, float limit)
    {
        // Memory is what this waits for, not the width of the arithmetic.
        var done = 0;
        if (Vector256.IsHardwareAccelerated)
        {
            var inside = Vector256<float>.AllBitsSet;
            ref var value = ref MemoryMarshal.GetReference(values);
            var (limits, scale, inverse) = (Vector256.Create(limit), Vector256.Create(Scale), Vector256.Create(InverseScale));
            for (; done + 8 <= values.Length; done += 8)
            {
                var x = Vector256.LoadUnsafe(ref value, (nuint)done);
                inside &= Vector256.LessThan(Vector256.Abs(x), limits);
                var (low, high) = Vector256.Widen(x);

                // The addition turns -0 into 0.
                low = (Vector256.Round(low * scale) * inverse) + Vector256<double>.Zero;
                high = (Vector256.Round(high * scale) * inverse) + Vector256<double>.Zero;
                Vector256.Narrow(low, high).StoreUnsafe(ref value, (nuint)done);
            }

            if (inside.AsInt32() != Vector256<int>.AllBitsSet)
            {
                return false;
            }
        }

        return RoundScalar(values[done..], limit);
    }

    /// <summary>The scalar path, which the other equals bit for bit.</summary>
    internal static bool RoundScalar(Span<float> values, float limit)
    {
        var inside = true;
        foreach (ref var value in values)
        {
            inside &= MathF.Abs(value) < limit;
            value = (float)((Math.Round(value * Scale, MidpointRounding.ToEven) * InverseScale) + 0.0);
        }

        return inside;
    }

    /// <summary>The scalar path, which the others equal bit for bit.</summary>
    internal static bool AddScalar(ReadOnlySpan<float> values, Span<long> sums, bool overwrite, float limit)
    {
        var inside = true;
        for (var i = 0; i < values.Length; i++)
        {
            var value = values[i];
            inside &= MathF.Abs(value) < limit;
            var integer = (long)Math.Round(value * Scale, MidpointRounding.ToEven);
            sums[i] = overwrite ? integer : unchecked(sums[i] + integer);
        }

        return inside;
    }

    /// <summary>Returns how many leading elements are done, or -1 when one was outside the limit.</summary>
    internal static int Add512(ReadOnlySpan<float> values, Span<long> sums, bool overwrite, float limit)
    {
        var length = values.Length & ~15;
        ref var value = ref MemoryMarshal.GetReference(values);
        ref var sum = ref MemoryMarshal.GetReference(sums);
        var limits = Vector512.Create(limit);
        var scale = Vector512.Create((float)Scale);
        var inside = Vector512<float>.AllBitsSet;
        for (nuint i = 0; i < (nuint)length; i += 16)
        {
            // A product with a power of two is exact, and the conversion rounds to even.
            var x = Vector512.LoadUnsafe(ref value, i);
            inside &= Vector512.LessThan(Vector512.Abs(x), limits);
            x *= scale;
            var a = Avx512DQ.ConvertToVector512Int64(x.GetLower());
            var b = Avx512DQ.ConvertToVector512Int64(x.GetUpper());
            if (!overwrite)
            {
                a += Vector512.LoadUnsafe(ref sum, i);
                b += Vector512.LoadUnsafe(ref sum, i + 8);
            }

            a.StoreUnsafe(ref sum, i);
            b.StoreUnsafe(ref sum, i + 8);
        }

        return inside.AsInt32() == Vector512<int>.AllBitsSet ? length : -1;
    }

    /// <summary>Returns how many leading elements are done, or -1 when one was outside the limit.</summary>
    internal static int Add256(ReadOnlySpan<float> values, Span<long> sums, bool overwrite, float limit)
    {
        var length = values.Length & ~7;
        ref var value = ref MemoryMarshal.GetReference(values);
        ref var sum = ref MemoryMarshal.GetReference(sums);
        var magicLimits = Vector256.Create(Math.Min(limit, MagicLimit));
        var scale = Vector256.Create(Scale);
        var magic = Vector256.Create(RoundingMagic);
        for (nuint i = 0; i < (nuint)length; i += 8)
        {
            var x = Vector256.LoadUnsafe(ref value, i);
            if (!Vector256.LessThanAll(Vector256.Abs(x), magicLimits))
            {
                if (!AddScalar(values.Slice((int)i, 8), sums.Slice((int)i, 8), overwrite, limit))
                {
                    return -1;
                }

                continue;
            }

            var (low, high) = Vector256.Widen(x);
            var a = ((low * scale) + magic).AsInt64() - magic.AsInt64();
            var b = ((high * scale) + magic).AsInt64() - magic.AsInt64();
            if (!overwrite)
            {
                a += Vector256.LoadUnsafe(ref sum, i);
                b += Vector256.LoadUnsafe(ref sum, i + 4);
            }

            a.StoreUnsafe(ref sum, i);
            b.StoreUnsafe(ref sum, i + 4);
        }

        return length;
    }

    /// <summary>The sums as fp32: rounded to float64, scaled, rounded to fp32, the same on every machine.</summary>
    public static void ToSingle(ReadOnlySpan<long> sums, Span<float> values)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(sums.Length, values.Length);
        var i = 0;
        if (Vector512.IsHardwareAccelerated)
        {
            ref var sum = ref MemoryMarshal.GetReference(sums);
            ref var value = ref MemoryMarshal.GetReference(values);
            var scale = Vector512.Create(InverseScale);
            for (; i + 16 <= sums.Length; i += 16)
            {
                var low = Vector512.ConvertToDouble(Vector512.LoadUnsafe(ref sum, (nuint)i)) * scale;
                var high = Vector512.ConvertToDouble(Vector512.LoadUnsafe(ref sum, (nuint)i + 8)) * scale;
                Vector512.Narrow(low, high).StoreUnsafe(ref value, (nuint)i);
            }
        }

        for (; i < sums.Length; i++)
        {
            values[i] = (float)(sums[i] * InverseScale);
        }
    }
}
