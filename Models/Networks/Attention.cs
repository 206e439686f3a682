using TorchSharp;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace LlmPipeline.Models.Networks;

// B = batch, T = time, S = positions attended to, H = heads, K = heads of keys and values, G = H / K, D = head size

/// <summary>Scaled dot-product attention (Vaswani et al. 2017).</summary>
internal static class Attention
{
    /// <summary>Each position looks at itself and those before it; at all of the sequence where the objective is masked.</summary>
    /// <param name="q_BHTD">Queries.</param>
    /// <param name="k_BKTD">Keys of the same positions; each of its heads serves the G heads of queries next to each other.</param>
    /// <param name="v_BKTD">Values of the same positions.</param>
    /// <param name="objective">What the network predicts.</param>
    /// <param name="pass">The pass.</param>
    /// <param name="cache">Receives keys and values, and gives those before; null outside of a generation.</param>
    /// <returns>(B, H, T, D).</returns>
    public static Tensor Of(Tensor q_BHTD, Tensor k_BKTD, Tensor v_BKTD, Objective objective, Pass pass, KeysAndValues? cache)
    {
        var (k_BKSD, v_BKSD) = cache?.Append(k_BKTD, v_BKTD, pass.Start) ?? (k_BKTD, v_BKTD);
        var (shape, kvHeads) = (q_BHTD.shape, k_BKTD.shape[1]);
        var group = shape[1] / kvHeads;
        if (group > 1 && shape[2] == 1 && pass.Dropout is null)
        {
            // The G queries of a group look at the same keys, as G positions would: nothing has to be copied.
            return F.scaled_dot_product_attention(q_BHTD.reshape(shape[0], kvHeads, group, shape[3]), k_BKSD, v_BKSD).reshape(shape);
        }

        var (k_BHSD, v_BHSD) = group == 1 ? (k_BKSD, v_BKSD) : (k_BKSD.repeat_interleave(group, 1), v_BKSD.repeat_interleave(group, 1));
        if (pass.Dropout?.ForFusedKernels is { } probability)
        {
            var isCausal = objective == Objective.Causal;
            return F.scaled_dot_product_attention(q_BHTD, k_BHSD, v_BHSD, isCausal ? null : pass.Padding_B11T, probability, isCausal);
        }

        return pass.Dropout is not null ? WithDropout(q_BHTD, k_BHSD, v_BHSD, objective, pass)
            : pass.Padding_B11T is not null ? F.scaled_dot_product_attention(q_BHTD, k_BHSD, v_BHSD, pass.Padding_B11T)
            : pass.Start == 0 ? F.scaled_dot_product_attention(q_BHTD, k_BHSD, v_BHSD, is_casual: objective == Objective.Causal)
            : F.scaled_dot_product_attention(q_BHTD, k_BHSD, v_BHSD, q_BHTD.shape[2] == 1 ? null : Mask(q_BHTD.shape[2], pass.Start, q_BHTD.device));
    }

    // scaled_dot_product_attention would take dropout from the generator that the whole process shares.
    private static Tensor WithDropout(Tensor q_BHTD, Tensor k_BHTD, Tensor v_BHTD, Objective objective, Pass pass)
    {
        using var scale = (1 / Math.Sqrt(q_BHTD.shape[3])).ToScalar();
        var scores_BHTT = q_BHTD.mul(scale).matmul(k_BHTD.transpose(2, 3));
        var mask = objective == Objective.Causal ? Mask(q_BHTD.shape[2], 0, q_BHTD.device) : pass.Padding_B11T;
        scores_BHTT = mask is null ? scores_BHTT : scores_BHTT.Plus(mask);
        var weights_BHTT = scores_BHTT.softmax(-1);
        return pass.Dropout!.Apply(weights_BHTT).matmul(v_BHTD);
    }

    // (T, S): 0 where position start + t may look at s, minus infinity elsewhere.
    private static Tensor Mask(long time, int start, Device device)
    {
        using var hidden = float.NegativeInfinity.ToScalar();
        return full([time, start + time], hidden, float32, device).triu(start + 1);
    }
}

/// <summary>Keys and values of one block, (B, H, S, D) each, of which the first positions are in use.</summary>
internal sealed class KeysAndValues(int batch, int heads, int positions, int headSize, Device device) : IDisposable
{
    private readonly Tensor _keys = empty([batch, heads, positions, headSize], float32, device).DetachFromDisposeScope();
    private readonly Tensor _values = empty([batch, heads, positions, headSize], float32, device).DetachFromDisposeScope();

    /// <summary>Puts keys and values of T positions behind the first <paramref name="start"/>, and gives all of them.</summary>
    public (Tensor K_BHSD, Tensor V_BHSD) Append(Tensor k_BHTD, Tensor v_BHTD, int start)
    {
        var time = k_BHTD.shape[2];
        _keys.narrow(2, start, time).copy_(k_BHTD);
        _values.narrow(2, start, time).copy_(v_BHTD);
        return (_keys.narrow(2, 0, start + time), _values.narrow(2, 0, start + time));
    }

    public void Dispose()
    {
        _keys.Dispose();
        _values.Dispose();
    }
}
