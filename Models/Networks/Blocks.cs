using TorchSharp;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace LlmPipeline.Models.Networks;

/// <summary>A product with a weight.</summary>
/// <param name="Weight">(in, out) or (out, in).</param>
/// <param name="Bias">(out), or null.</param>
/// <param name="InputFirst">The weight is (in, out).</param>
internal sealed record Linear(Tensor Weight, Tensor? Bias, bool InputFirst)
{
    /// <summary>A low-rank update; null without.</summary>
    public LowRank? Update { get; init; }

    public Tensor Forward(Tensor x_NC)
    {
        var weight = InputFirst ? Weight : Weight.t();
        var y_NC = Bias is null ? x_NC.mm(weight) : Bias.addmm(x_NC, weight);
        return Update is null ? y_NC : y_NC.Plus(Update.Forward(x_NC));
    }
}

/// <summary>The update of a linear layer (LoRA, Hu et al. 2021): scale x A B.</summary>
/// <param name="A_RC">A, transposed: (rank, in).</param>
/// <param name="B_CR">B, transposed: (out, rank).</param>
/// <param name="Scale">alpha / rank.</param>
/// <param name="Dropout">Dropout of x.</param>
internal sealed record LowRank(Tensor A_RC, Tensor B_CR, double Scale, UpdateDropout Dropout)
{
    public Tensor Forward(Tensor x_NC)
    {
        using var scale = Scale.ToScalar();
        return (Dropout.Current?.Apply(x_NC) ?? x_NC).mm(A_RC.t()).mm(B_CR.t()).mul(scale);
    }
}

/// <summary>The dropout that the updates of a network share; it changes with the micro-batch.</summary>
internal sealed class UpdateDropout : IDisposable
{
    /// <summary>Null outside of training.</summary>
    public Dropout? Current { get; private set; }

    /// <summary>Begins a micro-batch, which ends with <see cref="Dispose"/>.</summary>
    public UpdateDropout Begin(double probability, ulong seed, Device device)
    {
        Current = probability > 0 ? new Dropout(probability, Seeds.Derive((long)seed, "lora-dropout"), device) : null;
        return this;
    }

    public void Dispose()
    {
        Current?.Dispose();
        Current = null;
    }
}

/// <summary>LayerNorm over the channels.</summary>
internal sealed record Norm(Tensor Weight, Tensor? Bias, double Epsilon)
{
    private readonly long[] _shape = Weight.shape;

    public Tensor Forward(Tensor x_NC) => F.layer_norm(x_NC, _shape, Weight, Bias!, Epsilon);
}

/// <summary>
/// Dropout of one micro-batch: on the CPU with a generator of its own, on CUDA, where TorchSharp makes none, with the one that the
/// device's kernels share, begun anew.
/// </summary>
internal sealed class Dropout : IDisposable
{
    private readonly Generator? _generator;
    private readonly double _probability;

    public Dropout(double probability, ulong seed, Device device)
    {
        _probability = probability;
        if (device.type == DeviceType.CPU)
        {
            _generator = new Generator(seed, device);
        }
        else
        {
            // Of all devices: seeding one takes the present one, which is not always the network's.
            cuda.manual_seed_all((long)seed);
        }
    }

    /// <summary>The probability for the fused kernels to draw with; null where they draw from a generator that others use.</summary>
    public double? ForFusedKernels => _generator is null ? _probability : null;

    /// <summary>Zeroes each element with the probability and scales the others up, so that the mean stays.</summary>
    public Tensor Apply(Tensor x) => Apply(x, _probability);

    /// <summary>The same with another probability, and for sequences that lie time first, (T * B, C), with the same channels at all time steps of a sequence.</summary>
    /// <param name="x">Any shape; two dimensions for sequences.</param>
    /// <param name="share">The probability.</param>
    /// <param name="batch">B, for sequences; null for single elements.</param>
    public Tensor Apply(Tensor x, double share, int? batch = null)
    {
        if (share == 0)
        {
            return x;
        }

        if (_generator is null && batch is null)
        {
            return F.dropout(x, share);
        }

        var keep = 1 - share;
        var shape = x.shape;
        using var scale = (1 / keep).ToScalar();
        var mask = empty(batch is { } rows ? [rows, shape[1]] : shape, float32, x.device).bernoulli_(keep, _generator).mul_(scale);
        return batch is null ? x * mask : (x.view(-1, batch.Value, shape[1]) * mask).view(shape);
    }

    public void Dispose() => _generator?.Dispose();
}
