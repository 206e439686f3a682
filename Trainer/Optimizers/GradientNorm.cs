using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace LlmPipeline.Trainer.Optimizers;

/// <summary>Global norm of a gradient: the same bits on every machine.</summary>
internal static class GradientNorm
{
    /// <summary>Elements summed apart before their sum is added to the total.</summary>
    public const int ChunkLength = 4096;

    /// <summary>Root of the float64 sum of squares: chunks in order, eight interleaved sums within a chunk.</summary>
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

    private static double SumOfSquares(ReadOnlySpan<float> values)
    {
        // A fixed number of lanes, whatever the hardware has, keeps the order of additions fixed.
        var low = Vector256<double>.Zero;
        var high = Vector256<double>.Zero;
        ref var value = ref MemoryMarshal.GetReference(values);
        var i = 0;
        for (; i + 8 <= values.Length; i += 8)
        {
            var (a, b) = Vector256.Widen(Vector256.LoadUnsafe(ref value, (nuint)i));
            low += a * a;
            high += b * b;
        }

        var lanes = low + high;
        var sum = lanes[0] + lanes[1] + lanes[2] + lanes[3];

        for (; i < values.Length; i++)
        {
            sum += (double)values[i] * values[i];
        }

        return sum;
    }
}
