using TorchSharp.Modules;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace LlmPipeline.Models;

// B = batch, T = time, S = positions attended to, N = B * T, C = channels, H = heads, D = head size

/// <summary>x + attention(norm(x)), then x + mlp(norm(x)).</summary>
internal sealed record Block(Norm Ln1, Linear CAttn, Linear AttnProj, Norm Ln2, Linear CFc, Linear MlpProj)
{
    /// <param name="x_NC">The residual stream.</param>
    /// <param name="batch">B.</param>
    /// <param name="heads">H.</param>
    /// <param name="dropout">Null outside of training.</param>
    /// <param name="cache">Receives keys and values at <paramref name="start"/>, and gives those before it; null when there are none before.</param>
    /// <param name="start">Position of the first of the T ids.</param>
    public Tensor Forward(Tensor x_NC, int batch, int heads, Dropout? dropout, KeysAndValues? cache = null, int start = 0)
    {
        var attention = AttnProj.Forward(Attention(CAttn.Forward(Ln1.Forward(x_NC)), batch, heads, dropout, cache, start));
        x_NC = x_NC + (dropout?.Apply(attention) ?? attention);
        var mlp = MlpProj.Forward(F.gelu(CFc.Forward(Ln2.Forward(x_NC)), GELU.Approximate.tanh));
        return x_NC + (dropout?.Apply(mlp) ?? mlp);
    }

    private static Tensor Attention(Tensor qkv_N3C, int batch, int heads, Dropout? dropout, KeysAndValues? cache, int start)
    {
        var width = qkv_N3C.shape[1] / 3;
        var parts = qkv_N3C.split(width, 1);
        var q_BHTD = Heads(parts[0]);
        var k_BHSD = Heads(parts[1]);
        var v_BHSD = Heads(parts[2]);
        if (cache is not null)
        {
            (k_BHSD, v_BHSD) = cache.Append(k_BHSD, v_BHSD, start);
        }

        var y_BHTD = dropout is not null ? WithDropout(q_BHTD, k_BHSD, v_BHSD, dropout)
            : start == 0 ? F.scaled_dot_product_attention(q_BHTD, k_BHSD, v_BHSD, is_casual: true)
            : F.scaled_dot_product_attention(q_BHTD, k_BHSD, v_BHSD, q_BHTD.shape[2] == 1 ? null : Mask(q_BHTD.shape[2], start, q_BHTD.device));
        return y_BHTD.transpose(1, 2).reshape(-1, width);

        Tensor Heads(Tensor x_NC) => x_NC.view(batch, -1, heads, width / heads).transpose(1, 2);
    }

    // scaled_dot_product_attention would take dropout from the generator that the whole process shares.
    private static Tensor WithDropout(Tensor q_BHTD, Tensor k_BHTD, Tensor v_BHTD, Dropout dropout)
    {
        var scores_BHTT = (q_BHTD * (1 / Math.Sqrt(q_BHTD.shape[3]))).matmul(k_BHTD.transpose(2, 3));
        var weights_BHTT = (scores_BHTT + Mask(q_BHTD.shape[2], 0, q_BHTD.device)).softmax(-1);
        return dropout.Apply(weights_BHTT).matmul(v_BHTD);
    }

    // (T, S): 0 where position start + t may look at s, minus infinity elsewhere.
    private static Tensor Mask(long time, int start, Device device)
        => full([time, start + time], float.NegativeInfinity, float32, device).triu(start + 1);
}

/// <summary>A product with a weight of shape (in, out), as GPT-2's checkpoints have it.</summary>
internal sealed record Linear(Tensor Weight, Tensor? Bias)
{
    public Tensor Forward(Tensor x_NC) => Bias is null ? x_NC.mm(Weight) : Bias.addmm(x_NC, Weight);
}

/// <summary>LayerNorm over the channels.</summary>
internal sealed record Norm(Tensor Weight, Tensor? Bias, double Epsilon)
{
    private readonly long[] _shape = Weight.shape;

    public Tensor Forward(Tensor x_NC) => F.layer_norm(x_NC, _shape, Weight, Bias!, Epsilon);
}

/// <summary>Dropout of one micro-batch, with a generator of its own.</summary>
internal sealed class Dropout(double probability, ulong seed, Device device) : IDisposable
{
    private readonly Generator _generator = new(seed, device);

    /// <summary>Zeroes each element with the probability and scales the others up, so that the mean stays.</summary>
    public Tensor Apply(Tensor x)
    {
        var keep = 1 - probability;
        return x * empty(x.shape, float32, x.device).bernoulli_(keep, _generator).mul_(1 / keep);
    }

    public void Dispose() => _generator.Dispose();
}

/// <summary>Keys and values of one block, (B, H, S, D) each, of which the first positions are in use.</summary>
internal sealed record KeysAndValues(Tensor Keys, Tensor Values)
{
    public (Tensor K_BHSD, Tensor V_BHSD) Append(Tensor k_BHTD, Tensor v_BHTD, int start)
    {
        var time = k_BHTD.shape[2];
        Keys.narrow(2, start, time).copy_(k_BHTD);
        Values.narrow(2, start, time).copy_(v_BHTD);
        return (Keys.narrow(2, 0, start + time), Values.narrow(2, 0, start + time));
    }
}
