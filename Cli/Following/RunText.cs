using System.Globalization;
using Google.Protobuf.WellKnownTypes;
using LlmPipeline.Runs.V1;

namespace LlmPipeline.Cli.Following;

/// <summary>Words and figures of runs.</summary>
internal static class RunText
{
    /// <summary>The stages a run goes through, in order.</summary>
    public static readonly IReadOnlyList<Run.Types.State> Stages =
        [Run.Types.State.Queued, Run.Types.State.Preparing, Run.Types.State.Training, Run.Types.State.Evaluating, Run.Types.State.Publishing];

    public static string NameOf(Run.Types.State state) => state.ToString().ToUpperInvariant();

    /// <summary>Step, losses, speed and time left, as far as they are known and belong to the present stage.</summary>
    public static string Progress(Run run)
    {
        var progress = run.Progress;
        if (progress is null)
        {
            return "";
        }

        var parts = new List<string>();
        if (run.State is Run.Types.State.Training or Run.Types.State.Cancelling)
        {
            parts.Add(Invariant($"step {progress.Step:N0}/{progress.TotalSteps:N0}"));
            Add(progress.HasTrainLoss, $"loss {progress.TrainLoss:F4}");
            Add(progress.HasValidationLoss, $"validation {progress.ValidationLoss:F4}");
            Add(progress.HasTokensPerSecond, $"{progress.TokensPerSecond:N0} tokens/s");
            Add(progress.HasModelFlopsUtilization, $"MFU {100 * progress.ModelFlopsUtilization:F0} %");
            Add(progress.HasGradientNorm, $"norm {progress.GradientNorm:G3}");
            Add(progress.HasMemoryBytes && progress.MemoryBytes > 0, $"{progress.MemoryBytes / 1e6:N0} MB");
            Add(progress.HasDeviceMemoryBytes, $"GPU {progress.DeviceMemoryBytes / 1e6:N0} MB");
            Add(run.Workers.Count > 0, $"{run.Workers.Count} {(run.Workers.Count == 1 ? "worker" : "workers")}");
        }

        Add(progress.HasRemainingSeconds && !RunFollower.IsOver(run), $"{Time(progress.RemainingSeconds)} left");
        return string.Join("  ", parts);

        void Add(bool isKnown, FormattableString text)
        {
            if (isKnown)
            {
                parts.Add(Invariant(text));
            }
        }
    }

    /// <summary>How the run ended, for a person.</summary>
    public static string Outcome(Run run)
    {
        var seconds = run.EndTime is not null && run.CreateTime is not null ? $" after {Time((run.EndTime.ToDateTime() - run.CreateTime.ToDateTime()).TotalSeconds)}" : "";
        return run.State switch
        {
            Run.Types.State.Failed => $"{run.Name} failed{seconds}: {run.Error?.Message} ({run.Error?.Reason})"
                + (run.LatestCheckpoint.Length > 0 ? $"\nIts newest checkpoint is {run.LatestCheckpoint}; go on from there with 'llmpipe runs resume {run.Name}'." : ""),
            Run.Types.State.Cancelled => $"{run.Name} was cancelled{seconds}; go on with 'llmpipe runs resume {run.Name}'.",
            Run.Types.State.Succeeded => $"{run.Name} succeeded{seconds}.",
            _ => $"{run.Name} is {NameOf(run.State)}.",
        };
    }

    /// <summary>Minutes and seconds, or hours, minutes and seconds.</summary>
    public static string Time(double seconds)
    {
        var time = TimeSpan.FromSeconds(Math.Clamp(Math.Round(seconds), 0, 1e9));
        return Invariant(time.TotalHours >= 1 ? $"{Math.Floor(time.TotalHours):F0}:{time.Minutes:D2}:{time.Seconds:D2}" : (FormattableString)$"{time.Minutes}:{time.Seconds:D2}");
    }

    /// <summary>Local date and time to the minute.</summary>
    public static string Moment(Timestamp? time) => time is null ? "" : time.ToDateTimeOffset().ToLocalTime().ToString("yyyy-MM-dd HH:mm", CultureInfo.InvariantCulture);

    public static string Invariant(FormattableString text) => FormattableString.Invariant(text);
}
