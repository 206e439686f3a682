using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace LlmPipeline.Models.Networks;

/// <summary>16 numbers at a time. What an element becomes does not depend on where it stands.</summary>
internal static class Lanes
{
    public const int Count = 16;

    /// <summary>Numbers from <paramref name="at"/>, at most <paramref name="count"/> of them; 0 for the rest.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Read(ReadOnlySpan<float> values, int at, int count)
        => count >= Count ? Vector512.Create(values.Slice(at, Count)) : ReadSome(values.Slice(at, count));

    /// <summary>Puts at most <paramref name="count"/> numbers to <paramref name="at"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Write(Vector512<float> vector, Span<float> values, int at, int count)
    {
        if (count >= Count)
        {
            vector.CopyTo(values.Slice(at, Count));
        }
        else
        {
            WriteSome(vector, values.Slice(at, count));
        }
    }

    /// <summary>
    /// exp(x), to 1e-7 of its value, for x in -87..88; beyond, as at the ends; NaN for NaN. x = n ln 2 + r, and exp(r) a polynomial
    /// fitted to 1e-8.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Exp(Vector512<float> x)
    {
        var (least, most) = (Vector512.Create(-87f), Vector512.Create(88f));
        x = Vector512.ConditionalSelect(Vector512.LessThan(x, least), least, x);
        x = Vector512.ConditionalSelect(Vector512.GreaterThan(x, most), most, x);

        // The sum with 1.5 * 2^23 rounds to a whole number, which then stands in the lowest bits; ln 2 in two parts, the first exact in products.
        var shift = Vector512.Create(12582912f);
        var shifted = Vector512.FusedMultiplyAdd(x, Vector512.Create(1.44269504f), shift);
        var n = shifted - shift;
        var r = Vector512.FusedMultiplyAdd(n, Vector512.Create(-0.693359375f), x);
        r = Vector512.FusedMultiplyAdd(n, Vector512.Create(2.12194440e-4f), r);
        var p = Vector512.FusedMultiplyAdd(r, Vector512.Create(0.0013933734f), Vector512.Create(0.0083632354f));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(0.0416664641f));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(0.1666657664f));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(0.5f));
        p = Vector512.FusedMultiplyAdd(p, r * r, r) + Vector512<float>.One;
        return p * Vector512.ShiftLeft(shifted.AsInt32() + Vector512.Create(127), 23).AsSingle();
    }

    /// <summary>1 / (1 + exp(-x)).</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Sigmoid(Vector512<float> x) => Vector512<float>.One / (Vector512<float>.One + Exp(-x));

    /// <summary>1 - 2 / (exp(2x) + 1); near 0, where that cancels, x + x^3 P(x^2) with P fitted to 3e-8.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Tanh(Vector512<float> x)
    {
        var large = Vector512<float>.One - (Vector512.Create(2f) / (Exp(x + x) + Vector512<float>.One));
        var z = x * x;
        var p = Vector512.FusedMultiplyAdd(z, Vector512.Create(-0.00594624f), Vector512.Create(0.02089109f));
        p = Vector512.FusedMultiplyAdd(p, z, Vector512.Create(-0.05382805f));
        p = Vector512.FusedMultiplyAdd(p, z, Vector512.Create(0.13332617f));
        p = Vector512.FusedMultiplyAdd(p, z, Vector512.Create(-0.33333327f));
        var small = Vector512.FusedMultiplyAdd(x * z, p, x);
        return Vector512.ConditionalSelect(Vector512.LessThan(Vector512.Abs(x), Vector512.Create(0.625f)), small, large);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static Vector512<float> ReadSome(ReadOnlySpan<float> values)
    {
        Span<float> all = stackalloc float[Count];
        all.Clear();
        values.CopyTo(all);
        return Vector512.Create((ReadOnlySpan<float>)all);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void WriteSome(Vector512<float> vector, Span<float> values)
    {
        Span<float> all = stackalloc float[Count];
        vector.CopyTo(all);
        all[..values.Length].CopyTo(values);
    }
}
