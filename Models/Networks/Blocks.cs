using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace LlmPipeline.Models.Networks;

/// <summary>A product with a weight.</summary>
/// <param name="Weight">(in, out) or (out, in).</param>
/// <param name="Bias">(out), or null.</param>
/// <param name="InputFirst">The weight is (in, out).</param>
internal sealed record Linear(Tensor Weight, Tensor? Bias, bool InputFirst)
{
    public Tensor Forward(Tensor x_NC)
    {
        var weight = InputFirst ? Weight : Weight.t();
        return Bias is null ? x_NC.mm(weight) : Bias.addmm(x_NC, weight);
    }
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
