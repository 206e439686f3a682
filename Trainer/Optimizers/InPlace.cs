using TorchSharp;
using static TorchSharp.torch;

namespace LlmPipeline.Trainer.Optimizers;

/// <summary>Operations on buffers in place, each number of which is kept alive while libtorch reads it, and is fp32.</summary>
internal static class InPlace
{
    /// <summary>a *= factor.</summary>
    public static Tensor Scale(this Tensor a, double factor)
    {
        using var scalar = ((float)factor).ToScalar();
        return a.mul_(scalar);
    }

    /// <summary>a += factor * b.</summary>
    public static Tensor AddScaled(this Tensor a, Tensor b, double factor)
    {
        using var scalar = ((float)factor).ToScalar();
        return a.add_(b, scalar);
    }

    /// <summary>a += number.</summary>
    public static Tensor AddNumber(this Tensor a, double number)
    {
        using var scalar = ((float)number).ToScalar();
        return a.add_(scalar);
    }

    /// <summary>a += factor * b * c.</summary>
    public static Tensor AddProduct(this Tensor a, Tensor b, Tensor c, double factor)
    {
        using var scalar = ((float)factor).ToScalar();
        return a.addcmul_(b, c, scalar);
    }

    /// <summary>a += factor * b / c.</summary>
    public static Tensor AddQuotient(this Tensor a, Tensor b, Tensor c, double factor)
    {
        using var scalar = ((float)factor).ToScalar();
        return a.addcdiv_(b, c, scalar);
    }
}
