using TorchSharp;
using static TorchSharp.torch;

namespace LlmPipeline.Models.Networks;

/// <summary>
/// Sums of tensors. TorchSharp's operator and one-argument methods for sums make a <see cref="Scalar"/> of 1 for each call, which nothing keeps
/// alive while libtorch reads it: a collection at that moment ends the call with an error, or multiplies by another number.
/// </summary>
internal static class Sums
{
    private static readonly Scalar One = 1.ToScalar();

    /// <summary>a + b.</summary>
    public static Tensor Plus(this Tensor a, Tensor b) => a.add(b, One);

    /// <summary>a += b.</summary>
    public static Tensor Accumulate(this Tensor a, Tensor b) => a.add_(b, One);
}
