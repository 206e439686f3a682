using LlmPipeline.Runs.V1;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary>Turns step metrics into the progress of a run.</summary>
internal static class TrainingProgress
{
    /// <summary>Span over which speed is measured.</summary>
    private const double WindowSeconds = 10;

    /// <summary>Fills in step, losses, speed, time left and share done.</summary>
    public static void Update(RunProgress progress, StepMetricsLog log, TrainingSpec training, double trainSeconds)
    {
        progress.TotalSteps = training.Steps;
        progress.TrainSeconds = Math.Max(progress.TrainSeconds, trainSeconds);
        if (log.Last is not { } last)
        {
            return;
        }

        progress.Step = last.Step;
        progress.TokenCount = last.TokenCount;
        if (double.IsFinite(last.TrainLoss))
        {
            progress.TrainLoss = last.TrainLoss;
            progress.GradientNorm = last.GradientNorm;
        }

        progress.LearningRate = last.LearningRate;
        progress.MemoryBytes = last.MemoryBytes;
        if (last.HasDeviceMemoryBytes)
        {
            progress.DeviceMemoryBytes = last.DeviceMemoryBytes;
        }

        if (last.HasModelFlopsUtilization)
        {
            progress.ModelFlopsUtilization = last.ModelFlopsUtilization;
        }

        var stepsPerSecond = 0.0;
        var recent = log.Recent(WindowSeconds);
        if (recent.Count > 1 && (recent[^1].Time - recent[0].Time).ToTimeSpan().TotalSeconds is > 0 and var seconds)
        {
            stepsPerSecond = (last.Step - recent[0].Step) / seconds;
        }
        else if (last.StepSeconds > 0)
        {
            stepsPerSecond = 1 / last.StepSeconds;
        }

        if (stepsPerSecond > 0)
        {
            progress.TokensPerSecond = stepsPerSecond * (last.TokenCount / (double)last.Step);
            var left = (training.Steps - last.Step) / stepsPerSecond;
            progress.RemainingSeconds = training.MaxSeconds > 0 ? Math.Max(0, Math.Min(left, training.MaxSeconds - progress.TrainSeconds)) : left;
        }

        var ofTime = training.MaxSeconds > 0 ? progress.TrainSeconds / training.MaxSeconds : 0;
        progress.Fraction = Math.Clamp(Math.Max((double)last.Step / training.Steps, ofTime), 0, 1);
    }

    /// <summary>Sets the progress back to the newest step of a log, before training goes on from there.</summary>
    /// <param name="progress">Of the run.</param>
    /// <param name="log">Ends with that step.</param>
    /// <param name="training">Its length.</param>
    /// <param name="trainSeconds">What the workers' clock says then: that of the checkpoint they go on from.</param>
    public static void Reset(RunProgress progress, StepMetricsLog log, TrainingSpec training, double trainSeconds)
    {
        progress.TrainSeconds = trainSeconds;
        progress.Step = 0;
        progress.TokenCount = 0;
        progress.ClearTrainLoss();
        progress.ClearValidationLoss();
        progress.ClearBestValidationLoss();
        progress.ClearTokensPerSecond();
        progress.ClearRemainingSeconds();
        progress.ClearModelFlopsUtilization();
        progress.ClearGradientNorm();
        progress.ClearLearningRate();
        progress.ClearMemoryBytes();
        progress.ClearDeviceMemoryBytes();
        progress.Fraction = 0;
        Update(progress, log, training, trainSeconds);
        foreach (var step in log.After(0, int.MaxValue).Where(m => m.HasValidationLoss))
        {
            Validated(progress, step.ValidationLoss);
        }
    }

    /// <summary>Takes a validation.</summary>
    public static void Validated(RunProgress progress, double loss)
    {
        progress.ValidationLoss = loss;
        progress.BestValidationLoss = progress.HasBestValidationLoss ? Math.Min(progress.BestValidationLoss, loss) : loss;
    }
}
