using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using TorchSharp;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace LlmPipeline.Models.Networks;

// M = places with a target, V = vocabulary or classes

/// <summary>
/// Cross-entropy with its gradient. On the CPU in one sweep: each row of logits is turned into its gradient where it lies, while it
/// is in the cache, so that nothing else of its size (M V, most of what a small network with a large vocabulary takes) is made.
/// </summary>
internal static class TokenLoss
{
    /// <summary>Sends the gradient of <c>scale * sum of losses</c> back through what the logits were computed from.</summary>
    /// <param name="logits_MV">fp32, with a graph that does not need their values; they are lost.</param>
    /// <param name="targets_M">int64.</param>
    /// <param name="scale">Factor of the gradient.</param>
    /// <param name="smoothing">Share of a target's probability that is spread evenly over all outputs.</param>
    /// <returns>The sum of losses, in nats: float64, on the device of the logits.</returns>
    public static Tensor Backward(Tensor logits_MV, Tensor targets_M, float scale, double smoothing)
    {
        if (logits_MV.device.type != DeviceType.CPU || !logits_MV.is_contiguous() || logits_MV.numel() > int.MaxValue / sizeof(float))
        {
            var loss = F.cross_entropy(logits_MV, targets_M, reduction: nn.Reduction.Sum, label_smoothing: smoothing);
            using var factor = scale.ToScalar();
            loss.mul(factor).backward();
            return loss.detach().to(float64);
        }

        var sum = 0.0;
        using var values = logits_MV.detach();
        var logits = MemoryMarshal.Cast<byte, float>(values.bytes);
        var targets = MemoryMarshal.Cast<byte, long>(targets_M.bytes);
        var width = logits.Length / targets.Length;
        for (var m = 0; m < targets.Length; m++)
        {
            sum += Row(logits.Slice(m * width, width), (int)targets[m], scale, (float)smoothing);
        }

        logits_MV.backward([values]);
        return tensor(sum, float64);
    }

    private static double Row(Span<float> row, int target, float scale, float smoothing)
    {
        var (max, sumOfLogits) = (row[0], 0.0);
        if (row.Length >= Lanes.Count)
        {
            var most = Vector512.Create((ReadOnlySpan<float>)row[..Lanes.Count]);
            for (var v = 0; v < row.Length; v += Lanes.Count)
            {
                // The last numbers of a row may be taken twice.
                most = Vector512.Max(most, Vector512.Create((ReadOnlySpan<float>)row.Slice(Math.Min(v, row.Length - Lanes.Count), Lanes.Count)));
            }

            for (var i = 0; i < Lanes.Count; i++)
            {
                max = Math.Max(max, most[i]);
            }
        }
        else
        {
            foreach (var value in row)
            {
                max = Math.Max(max, value);
            }
        }

        if (smoothing > 0)
        {
            foreach (var value in row)
            {
                sumOfLogits += value;
            }
        }

        var targetLogit = row[target];
        var shift = Vector512.Create(max);
        var sums = Vector512<float>.Zero;
        var whole = row.Length - (row.Length % Lanes.Count);
        for (var v = 0; v < whole; v += Lanes.Count)
        {
            var exp = Lanes.Exp(Vector512.Create((ReadOnlySpan<float>)row.Slice(v, Lanes.Count)) - shift);
            sums += exp;
            exp.CopyTo(row.Slice(v, Lanes.Count));
        }

        var sum = 0.0;
        for (var i = 0; i < Lanes.Count; i++)
        {
            sum += sums[i];
        }

        if (whole < row.Length)
        {
            var rest = Lanes.Exp(Lanes.Read(row, whole, row.Length - whole) - shift);
            Lanes.Write(rest, row, whole, row.Length - whole);
            foreach (var value in row[whole..])
            {
                sum += value;
            }
        }

        // Of softmax(logits) - target, where the target is 1 - smoothing at its place and smoothing / V everywhere.
        var factor = Vector512.Create((float)(scale / sum));
        var even = Vector512.Create(scale * smoothing / row.Length);
        for (var v = 0; v < row.Length; v += Lanes.Count)
        {
            Lanes.Write((Lanes.Read(row, v, row.Length - v) * factor) - even, row, v, row.Length - v);
        }

        row[target] -= scale * (1 - smoothing);
        var logSum = max + Math.Log(sum);
        return logSum - ((1 - smoothing) * targetLogit) - (smoothing * sumOfLogits / row.Length);
    }
}
