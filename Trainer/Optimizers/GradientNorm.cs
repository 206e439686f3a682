using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace LlmPipeline.Trainer.Optimizers;

/// <summary>
/// Global norm of a gradient: the root of the float64 sum of squares, the same bits on every machine. Chunks are summed apart,
/// eight interleaved sums within a chunk, and their sums added in order, so that a chunk can be summed whenever it is at hand.
/// </summary>
internal static class GradientNorm
{
    /// <summary>Elements of a chunk.</summary>
    public const int ChunkLength = 4096;

    /// <summary>Chunks of a gradient; the last one may be shorter.</summary>
    public static int ChunkCount(int length) => (length + ChunkLength - 1) / ChunkLength;

    /// <summary>The norm.</summary>
    public static double Compute(ReadOnlySpan<float> gradient)
    {
        var total = 0.0;
        for (var offset = 0; offset < gradient.Length; offset += ChunkLength)
        {
            total += SumOfSquares(gradient.Slice(offset, Math.Min(ChunkLength, gradient.Length - offset)));
        }

        return Math.Sqrt(total);
    }

    /// <summary>What to multiply a gradient with so that its norm is at most <paramref name="clipNorm"/>; as PyTorch's <c>clip_grad_norm_</c>.</summary>
    public static float ClipFactor(double norm, double clipNorm) => clipNorm > 0 ? (float)Math.Min(1, clipNorm / (norm + 1e-6)) : 1;

    /// <summary>The sum of squares of one chunk.</summary>
    public static double SumOfSquares(ReadOnlySpan<float> values)
    {
        var lanes = Vector512<double>.Zero;
        ref var value = ref MemoryMarshal.GetReference(values);
        var i = 0;
        for (; i + 16 <= values.Length; i += 16)
        {
            lanes = AddSquares(lanes, Vector512.LoadUnsafe(ref value, (nuint)i));
        }

        if (i + 8 <= values.Length)
        {
            var (low, high) = Vector256.Widen(Vector256.LoadUnsafe(ref value, (nuint)i));
            var wide = Vector512.Create(low, high);
            lanes += wide * wide;
            i += 8;
        }

        var sum = SumLanes(lanes);
        for (; i < values.Length; i++)
        {
            sum += (double)values[i] * values[i];
        }

        return sum;
    }

    /// <summary>Adds the squares of 16 numbers, the first eight before the others.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<double> AddSquares(Vector512<double> lanes, Vector512<float> values)
    {
        var (low, high) = Vector512.Widen(values);
        return lanes + (low * low) + (high * high);
    }

    /// <summary>The sum of the eight interleaved sums.</summary>
    public static double SumLanes(Vector512<double> lanes)
    {
        var four = lanes.GetLower() + lanes.GetUpper();
        return four[0] + four[1] + four[2] + four[3];
    }
}
