using LlmPipeline.Runs.V1;

namespace LlmPipeline.Trainer.Optimizers;

/// <summary>
/// Linear warm-up from 0 to the peak, then one of the shapes that <c>optimizer.schedule</c> names. Where PyTorch has the
/// scheduler (ConstantLR, StepLR, CosineAnnealingLR, LinearLR), the rates after the warm-up are its.
/// </summary>
internal sealed record LearningRateSchedule
{
    /// <summary>"constant", "step", "cosine", "linear" or "warmup-stable-decay".</summary>
    public required string Shape { get; init; }

    /// <summary>Learning rate at the end of the warm-up.</summary>
    public required double Peak { get; init; }

    /// <summary>Learning rate at the end of training, for the shapes that end with it.</summary>
    public double Minimum { get; init; }

    /// <summary>Steps of warm-up; the last of them has the peak, and so has the first step without a warm-up.</summary>
    public long WarmupSteps { get; init; }

    /// <summary>Steps in all.</summary>
    public required long TotalSteps { get; init; }

    /// <summary>Training time in seconds; the shape then follows the larger of the shares of steps and of time. 0: no limit.</summary>
    public double MaxSeconds { get; init; }

    /// <summary>"step": steps between two decays.</summary>
    public long StepSize { get; init; } = 1;

    /// <summary>"step": what a decay multiplies with.</summary>
    public double Gamma { get; init; } = 1;

    /// <summary>"warmup-stable-decay": the share of the steps after the warm-up in which the rate falls.</summary>
    public double DecayShare { get; init; } = 1;

    /// <summary>The schedule of a resolved spec.</summary>
    public static LearningRateSchedule Of(RunSpec spec) => new()
    {
        Shape = spec.Optimizer.HasSchedule ? spec.Optimizer.Schedule : "cosine",
        Peak = spec.Optimizer.LearningRate,
        Minimum = spec.Optimizer.MinLearningRate,
        WarmupSteps = spec.Optimizer.WarmupSteps,
        TotalSteps = spec.Training.Steps,
        MaxSeconds = spec.Training.MaxSeconds,
        StepSize = Math.Max(1, spec.Optimizer.StepSize),
        Gamma = spec.Optimizer.Gamma,
        DecayShare = spec.Optimizer.DecayShare,
    };

    /// <summary>The rate of a step.</summary>
    /// <param name="step">The step, from 1.</param>
    /// <param name="elapsedSeconds">Training time before it.</param>
    public double At(long step, double elapsedSeconds)
    {
        var peakStep = Math.Max(1, WarmupSteps);
        var steps = Math.Max(1, TotalSteps - peakStep);
        var ofTime = MaxSeconds > 0 ? Math.Clamp(elapsedSeconds / MaxSeconds, 0, 1) : 0;
        var done = Math.Clamp(Math.Max(step - peakStep, ofTime * steps), 0, steps);
        var rate = After(done, done / steps);
        return step < WarmupSteps ? Math.Min(rate, Peak * step / WarmupSteps) : rate;
    }

    /// <param name="steps">Steps after the warm-up.</param>
    /// <param name="share">Their share.</param>
    private double After(double steps, double share) => Shape switch
    {
        "constant" => Peak,
        "step" => Peak * Math.Pow(Gamma, Math.Floor(steps / StepSize)),
        "cosine" => Minimum + ((Peak - Minimum) * 0.5 * (1 + Math.Cos(Math.PI * share))),
        "linear" => Peak + ((Minimum - Peak) * share),
        "warmup-stable-decay" => Peak + ((Minimum - Peak) * Math.Clamp((share - (1 - DecayShare)) / DecayShare, 0, 1)),
        _ => throw new InvalidOperationException($"There is no schedule '{Shape}'."),
    };
}
