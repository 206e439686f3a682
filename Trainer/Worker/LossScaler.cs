namespace LlmPipeline.Trainer.Worker;

/// <summary>
/// Dynamic loss scaling for fp16 (Micikevicius et al. 2018), with PyTorch's <c>GradScaler</c> constants. The loss is multiplied so
/// that small gradients are not rounded to 0; they are divided by it, a power of two, before they leave the micro-batch. When one
/// overflows, all workers take the step again with half the scale, so no data is skipped.
/// </summary>
/// <param name="Scale">What the loss is multiplied with; a power of two.</param>
/// <param name="GoodSteps">Steps since it last changed.</param>
internal sealed record LossScaler(double Scale = 65536, long GoodSteps = 0)
{
    /// <summary>Steps after which the scale is doubled.</summary>
    public const long GrowthInterval = 2000;

    /// <summary>A gradient that overflows even so is not the scale's doing.</summary>
    public const double SmallestScale = 1.0 / (1 << 14);

    private const double LargestScale = 1L << 40;

    /// <summary>After a step.</summary>
    /// <param name="overflow">A gradient of the step was not finite.</param>
    public LossScaler After(bool overflow) =>
        overflow ? new(Scale / 2)
        : GoodSteps + 1 < GrowthInterval ? this with { GoodSteps = GoodSteps + 1 }
        : new(Math.Min(LargestScale, Scale * 2));
}
