using System.Globalization;
using System.Text.RegularExpressions;
using LlmPipeline.Runs.V1;
using LlmPipeline.Storage;

namespace LlmPipeline.Faults;

/// <summary>What a training came to.</summary>
/// <param name="Run">The run, as it was when training was over.</param>
/// <param name="Steps">Every step's numbers.</param>
/// <param name="Hashes">SHA-256 of the last checkpoint's weights and optimizer state.</param>
public sealed partial record TrainingOutcome(Run Run, IReadOnlyList<StepMetrics> Steps, string Hashes)
{
    /// <summary>Reads the outcome of a run.</summary>
    public static async Task<TrainingOutcome> ReadAsync(PipelineProcesses pipeline, Run run)
    {
        var steps = (await pipeline.Runs.ListStepMetricsAsync(new ListStepMetricsRequest { Name = run.Name, PageSize = 10_000 }, deadline: DateTime.UtcNow + pipeline.Limit)).Metrics;
        var manifest = await pipeline.Store.TryReadManifestAsync(run.LatestCheckpoint)
            ?? throw new InvalidOperationException($"{run.LatestCheckpoint} has no manifest.");
        var hashes = manifest.Files.Where(f => f.Name.EndsWith(".safetensors", StringComparison.Ordinal)).OrderBy(f => f.Name, StringComparer.Ordinal).Select(f => $"{f.Name} {f.Sha256}");
        return new TrainingOutcome(run, steps, $"{run.LatestCheckpoint[(run.LatestCheckpoint.LastIndexOf('/') + 1)..]} {string.Join(' ', hashes)}");
    }

    /// <summary>Every step's numbers, as text that shows every bit.</summary>
    public IReadOnlyList<string> Curve => [.. Steps.Select(m => string.Create(CultureInfo.InvariantCulture,
        $"{m.Step} {m.TrainLoss:R} {m.GradientNorm:R} {m.LearningRate:R} {m.TokenCount} {(m.HasValidationLoss ? m.ValidationLoss : 0):R}"))];

    /// <summary>In which step this outcome differs from another; null where every loss and the weights are the same bits.</summary>
    public string? DifferenceFrom(TrainingOutcome other)
    {
        var (mine, theirs) = (Curve, other.Curve);
        for (var i = 0; i < Math.Max(mine.Count, theirs.Count); i++)
        {
            var (here, there) = (i < mine.Count ? mine[i] : "nothing", i < theirs.Count ? theirs[i] : "nothing");
            if (here != there)
            {
                return $"line {i + 1} of the curve is '{here}' instead of '{there}'";
            }
        }

        return Hashes == other.Hashes ? null : $"the checkpoint is '{Hashes}' instead of '{other.Hashes}'";
    }

    /// <summary>Time of the first step after a moment that so many workers took; null when there is none.</summary>
    public DateTime? FirstStepAfter(DateTime moment, int? workers = null) =>
        Steps.Where(s => s.Time.ToDateTime() > moment && (workers is null || s.WorkerCount == workers)).Select(s => (DateTime?)s.Time.ToDateTime()).Min();

    /// <summary>When a step began. Its time is that of its update; validation and checkpoint come after it.</summary>
    public static DateTime Began(StepMetrics step) => step.Time.ToDateTime().AddSeconds(step.Phases.Validation + step.Phases.Checkpoint - step.StepSeconds);

    /// <summary>The last step done before a moment; 0 when there is none.</summary>
    public long LastStepBefore(DateTime moment) => Steps.Where(s => s.Time.ToDateTime() <= moment).Select(s => s.Step).DefaultIfEmpty().Max();

    /// <summary>Steps that were done before a moment and had to be done again: the epochs after it began further back.</summary>
    public long StepsRepeated(DateTime moment)
    {
        var last = LastStepBefore(moment);
        return Run.Events.Where(e => e.Kind == "EPOCH_STARTED" && e.Time.ToDateTime() > moment)
            .Select(e => FromStep().Match(e.Message)).Where(m => m.Success)
            .Select(m => Math.Max(0, last - long.Parse(m.Groups[1].ValueSpan, CultureInfo.InvariantCulture))).DefaultIfEmpty().Max();
    }

    /// <summary>The longest time between two steps in a row, over steps that end after one moment and begin before another; in seconds.</summary>
    public double LongestPause(DateTime from, DateTime to) => Steps.Zip(Steps.Skip(1), (a, b) => (Begins: a.Time.ToDateTime(), Ends: b.Time.ToDateTime()))
        .Where(p => p.Ends > from && p.Begins < to).Select(p => (p.Ends - p.Begins).TotalSeconds).DefaultIfEmpty().Max();

    /// <summary>Events of a kind.</summary>
    public IEnumerable<RunEvent> Events(string kind) => Run.Events.Where(e => e.Kind == kind);

    [GeneratedRegex("from step ([0-9]+) on")]
    private static partial Regex FromStep();
}
