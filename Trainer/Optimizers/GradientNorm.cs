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

    // Chunks that are summed side by side: one alone waits for its additions most of the time.
    private const int Together = 4;

    /// <summary>Chunks of a gradient; the last one may be shorter.</summary>
    public static int ChunkCount(int length) => (length + ChunkLength - 1) / ChunkLength;

    /// <summary>The norm.</summary>
    public static double Compute(ReadOnlySpan<float> gradient)
    {
        var total = 0.0;
        Span<double> sums = stackalloc double[Together];
        for (var offset = 0; offset < gradient.Length; offset += Together * ChunkLength)
        {
            var part = gradient.Slice(offset, Math.Min(Together * ChunkLength, gradient.Length - offset));
            var chunks = ChunkCount(part.Length);
            SumSquares(part, sums[..chunks]);
            foreach (var sum in sums[..chunks])
            {
                total += sum;
            }
        }

        return Math.Sqrt(total);
    }

    /// <summary>What to multiply a gradient with so that its norm is at most <paramref name="clipNorm"/>; as PyTorch's <c>clip_grad_norm_</c>.</summary>
    public static float ClipFactor(double norm, double clipNorm) => clipNorm > 0 ? (float)Math.Min(1, clipNorm / (norm + 1e-6)) : 1;

    /// <summary>The sum of squares of each chunk.</summary>
    /// <param name="values">Begins with a chunk.</param>
    /// <param name="sums">As many as <see cref="ChunkCount"/>.</param>
    public static void SumSquares(ReadOnlySpan<float> values, Span<double> sums)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(sums.Length, ChunkCount(values.Length));
        var chunk = 0;
        for (; (chunk + Together) * ChunkLength <= values.Length; chunk += Together)
        {
            SumFour(ref MemoryMarshal.GetReference(values[(chunk * ChunkLength)..]), sums.Slice(chunk, Together));
        }

        for (; chunk < sums.Length; chunk++)
        {
            sums[chunk] = SumOne(values[(chunk * ChunkLength)..Math.Min((chunk + 1) * ChunkLength, values.Length)]);
        }
    }

    private static void SumFour(ref float values, Span<double> sums)
    {
        var (a, b, c, d) = (Vector512<double>.Zero, Vector512<double>.Zero, Vector512<double>.Zero, Vector512<double>.Zero);
        for (nuint i = 0; i < ChunkLength; i += 16)
        {
            a = Add(a, Vector512.LoadUnsafe(ref values, i));
            b = Add(b, Vector512.LoadUnsafe(ref values, i + ChunkLength));
            c = Add(c, Vector512.LoadUnsafe(ref values, i + (2 * ChunkLength)));
            d = Add(d, Vector512.LoadUnsafe(ref values, i + (3 * ChunkLength)));
        }

        (sums[0], sums[1], sums[2], sums[3]) = (SumLanes(a), SumLanes(b), SumLanes(c), SumLanes(d));
    }

    private static double SumOne(ReadOnlySpan<float> values)
    {
        var lanes = Vector512<double>.Zero;
        ref var value = ref MemoryMarshal.GetReference(values);
        var i = 0;
        for (; i + 16 <= values.Length; i += 16)
        {
            lanes = Add(lanes, Vector512.LoadUnsafe(ref value, (nuint)i));
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
    private static Vector512<double> Add(Vector512<double> lanes, Vector512<float> values)
    {
        var (low, high) = Vector512.Widen(values);
        return lanes + (low * low) + (high * high);
    }

    private static double SumLanes(Vector512<double> lanes)
    {
        var four = lanes.GetLower() + lanes.GetUpper();
        return four[0] + four[1] + four[2] + four[3];
    }
}
