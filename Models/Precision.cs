using LlmPipeline.Models.Networks;

namespace LlmPipeline.Models;

/// <summary>Numbers that matrix products of training are computed in. Parameters, gradients and moments are fp32 always.</summary>
public enum Precision
{
    /// <summary>32 bits throughout.</summary>
    Fp32,

    /// <summary>bfloat16 where autocast finds it safe: 8 bits of exponent as in fp32, 8 of significand.</summary>
    Bf16,

    /// <summary>IEEE half where autocast finds it safe, with loss scaling; on CUDA.</summary>
    Fp16,
}

/// <summary>Precisions by the names that run files and checkpoints have.</summary>
public static class Precisions
{
    /// <summary>The names.</summary>
    public static IReadOnlyList<string> Names { get; } = ["fp32", "bf16", "fp16"];

    /// <summary>The name of a precision.</summary>
    public static string NameOf(Precision precision) => Names[(int)precision];

    /// <summary>The precision of a name; null when there is none.</summary>
    public static Precision? Parse(string name)
    {
        for (var i = 0; i < Names.Count; i++)
        {
            if (Names[i] == name)
            {
                return (Precision)i;
            }
        }

        return null;
    }

    /// <summary>Whether networks of an architecture can be trained in a precision: fp32 by all, 16 bits by those that autocast leads through.</summary>
    public static bool IsSupported(Precision precision, string architecture) => precision == Precision.Fp32 || NetworkArchitecture.Of(architecture).TakesAutocast;
}
