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

    /// <summary>1 / (1 + exp(-x)).</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Sigmoid(Vector512<float> x) => Vector512<float>.One / (Vector512<float>.One + Vector512.Exp(-x));

    /// <summary>1 - 2 / (exp(2x) + 1); near 0, where that cancels, x + x^3 P(x^2) with P fitted to 3e-8.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Tanh(Vector512<float> x)
    {
        var large = Vector512<float>.One - (Vector512.Create(2f) / (Vector512.Exp(x + x) + Vector512<float>.One));
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
