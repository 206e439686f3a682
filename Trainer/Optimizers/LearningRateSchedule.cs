namespace LlmPipeline.Trainer.Optimizers;

/// <summary>Linear warm-up from 0, then half a cosine from the peak to the minimum.</summary>
/// <param name="Peak">Learning rate at the end of the warm-up.</param>
/// <param name="Minimum">Learning rate at the end of training.</param>
/// <param name="WarmupSteps">Steps of warm-up.</param>
/// <param name="TotalSteps">Steps in all.</param>
/// <param name="MaxSeconds">Training time in seconds; the cosine then follows the larger of the shares of steps and of time. 0: no limit.</param>
internal sealed record LearningRateSchedule(double Peak, double Minimum, long WarmupSteps, long TotalSteps, double MaxSeconds)
{
    /// <summary>The rate of a step.</summary>
    /// <param name="step">The step, from 1.</param>
    /// <param name="elapsedSeconds">Training time before it.</param>
    public double At(long step, double elapsedSeconds)
    {
        var ofSteps = (double)(step - WarmupSteps) / Math.Max(1, TotalSteps - WarmupSteps);
        var ofTime = MaxSeconds > 0 ? elapsedSeconds / MaxSeconds : 0;
        var progress = Math.Clamp(Math.Max(ofSteps, ofTime), 0, 1);
        var cosine = Minimum + ((Peak - Minimum) * 0.5 * (1 + Math.Cos(Math.PI * progress)));
        return step < WarmupSteps ? Math.Min(cosine, Peak * step / WarmupSteps) : cosine;
    }
}
