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
