namespace LlmPipeline.Trainer.Collectives;

/// <summary>How gradients are summed.</summary>
internal enum SumMode
{
    /// <summary>As integers: the same bits on any number of workers.</summary>
    Exact,

    /// <summary>As fp32: the bits depend on how many workers there are.</summary>
    Plain,
}

/// <summary>What gradients are on the wire, where they are not integers.</summary>
internal enum WireFormat
{
    /// <summary>4 bytes.</summary>
    Fp32,

    /// <summary>2 bytes: rounded to the nearest bfloat16, ties to even.</summary>
    Bf16,

    /// <summary>In exact mode: the results are sent as the integers that they are, which for small ones are few bytes.</summary>
    Integers,
}

/// <summary>How gradients are summed and sent; all members of a ring have the same.</summary>
/// <param name="Mode">How they are summed.</param>
/// <param name="Wire">
/// What is sent. In exact mode the integers always go whole; bf16 rounds the final sum, with one worker too, so that it goes round in
/// 2 bytes and is still the same bits on any number of workers.
/// </param>
internal readonly record struct ExchangeFormat(SumMode Mode, WireFormat Wire)
{
    /// <summary>Integers, and fp32 results.</summary>
    public static ExchangeFormat Exact { get; } = new(SumMode.Exact, WireFormat.Fp32);

    /// <summary>Integers, before and after they are summed.</summary>
    public static ExchangeFormat Integers { get; } = new(SumMode.Exact, WireFormat.Integers);
}
