using System.Globalization;
using System.Text;
using Google.Protobuf;
using LlmPipeline.Evaluations.V1;
using LlmPipeline.Runs.V1;
using State = LlmPipeline.Runs.V1.Run.Types.State;

namespace LlmPipeline.Trainer.Coordinator.Reports;

/// <summary>Writes a run's report as Markdown.</summary>
internal static class RunReportMarkdown
{
    public static string Write(Run run, IReadOnlyList<StepMetrics> steps, RunReport report, IReadOnlyList<(string Path, string Title, string Svg)> curves)
    {
        var text = new StringBuilder();
        text.Append(CultureInfo.InvariantCulture, $"# {run.Name}\n\n{Outcome(run)}\n");
        Table(text, "Result", ["", ""], Result(run, steps, report));
        foreach (var (path, title, _) in curves)
        {
            text.Append(CultureInfo.InvariantCulture, $"\n![{title}]({path})\n");
        }

        Evaluation(text, run.Evaluation);
        Table(text, "Validations", ["step", "validation loss", "training loss", "tokens seen"], report.Validations.Select(s => new[]
        {
            Number(s.Step), Loss(s.ValidationLoss), Loss(s.TrainLoss), Number(s.TokenCount),
        }));
        Samples(text, report.Validations);
        var total = Math.Max(1e-9, report.Phases.Sum(p => p.Seconds));
        Table(text, "Time", ["phase", "seconds", "share"], report.Phases.Where(p => p.Seconds > 0).Select(p => new[]
        {
            p.Name, Fixed(p.Seconds, 2), p.Seconds > 0 ? $"{Fixed(100 * p.Seconds / total, 1)} %" : "",
        }));
        Table(text, "Anomalies", ["step", "reason", "loss", "gradient norm"], report.Anomalies.Select(s => new[] { Number(s.Step), s.Anomaly, Loss(s.TrainLoss), Loss(s.GradientNorm) }));
        Table(text, "Environment", ["", ""], RunReport.Environments(run).Select(e => new[] { e.Name, e.Value }));
        Table(text, "Events", ["time (UTC)", "event", ""], run.Events.Select(e => new[]
        {
            e.Time?.ToDateTime().ToString("yyyy-MM-dd HH:mm:ss", CultureInfo.InvariantCulture) ?? "", e.Kind, e.Message,
        }));
        text.Append(CultureInfo.InvariantCulture, $"\n## Configuration\n\n```json\n{new JsonFormatter(JsonFormatter.Settings.Default.WithIndentation().WithPreserveProtoFieldNames(true)).Format(run.Spec)}\n```\n");
        return text.ToString();
    }

    private static string Outcome(Run run) => run.State switch
    {
        State.Succeeded => $"Succeeded: {run.ModelVersion} is published.",
        State.Failed => $"Failed: {run.Error?.Message} ({run.Error?.Reason})",
        State.Cancelled => "Cancelled.",
        _ => $"Not over yet: {RunStates.NameOf(run.State)}.",
    };

    private static IEnumerable<string[]> Result(Run run, IReadOnlyList<StepMetrics> steps, RunReport report)
    {
        var progress = run.Progress ?? new RunProgress();
        yield return ["attempt", Number(run.Attempt)];
        yield return ["steps", $"{Number(progress.Step)} of {Number(progress.TotalSteps)}"];
        yield return ["tokens", Number(progress.TokenCount)];
        yield return ["training seconds", Fixed(progress.TrainSeconds, 1)];
        if (progress.HasBestValidationLoss)
        {
            yield return ["lowest validation loss", Loss(progress.BestValidationLoss)];
        }

        var measured = steps.Where(s => s.TokensPerSecond > 0).ToList();
        if (measured.Count > 0)
        {
            yield return ["tokens per second, median", Number((long)Statistics.Median([.. measured.Select(s => s.TokensPerSecond)]))];
            yield return ["most memory of rank 0, MB", Fixed(measured.Max(s => s.MemoryBytes) / 1e6, 0)];
        }

        if (steps.Any(s => s.ExchangeBytes > 0))
        {
            yield return ["sent by rank 0 in exchanges, MB", Fixed(steps.Sum(s => s.ExchangeBytes) / 1e6, 1)];
        }

        var utilizations = measured.Where(s => s.HasModelFlopsUtilization).Select(s => s.ModelFlopsUtilization).ToList();
        if (utilizations.Count > 0)
        {
            yield return ["model FLOPS utilization, median", $"{Fixed(100 * Statistics.Median(utilizations), 1)} %"];
        }

        yield return ["dataset", run.Dataset];
        yield return ["newest checkpoint", run.LatestCheckpoint];
        yield return ["best checkpoint", run.BestCheckpoint];
        yield return ["trace", run.TraceId];
        yield return ["steps that changed nothing", Number(report.Anomalies.Count)];
    }

    private static void Evaluation(StringBuilder text, EvaluationResult? evaluation)
    {
        if (evaluation?.Model is not { } model)
        {
            return;
        }

        var rows = new List<string[]> { Row("model", model) };
        if (evaluation.Ngram is { } ngram)
        {
            rows.Add(Row($"{evaluation.NgramOrder}-gram, Kneser-Ney", ngram));
        }

        Table(text, $"Evaluation on {evaluation.Split}", ["", "loss", "perplexity", "bits per byte", "accuracy", "BLEU", "tokens"], rows);

        static string[] Row(string name, ModelQuality quality) =>
        [
            name, Loss(quality.Loss), Fixed(quality.Perplexity, 3), Fixed(quality.BitsPerByte, 4), Fixed(quality.Accuracy, 4), quality.HasBleu ? Fixed(quality.Bleu, 2) : "", Number(quality.TokenCount),
        ];
    }

    private static void Samples(StringBuilder text, IReadOnlyList<StepMetrics> validations)
    {
        var withSamples = validations.Where(v => v.Samples.Count > 0).ToList();
        // The first, one half-way, the last: how the model learned to write.
        foreach (var step in withSamples.Count <= 3 ? withSamples : [withSamples[0], withSamples[withSamples.Count / 2], withSamples[^1]])
        {
            text.Append(CultureInfo.InvariantCulture, $"\n## Samples after step {Number(step.Step)}\n");
            foreach (var sample in step.Samples)
            {
                text.Append(CultureInfo.InvariantCulture, $"\n{(sample.Prompt.Length > 0 ? $"Continuing \"{Cell(sample.Prompt)}\"" : "Beginning a document")}:\n\n");
                foreach (var line in sample.Text.Split('\n'))
                {
                    text.Append("    ").Append(Printable(line)).Append('\n');
                }
            }
        }
    }

    private static void Table(StringBuilder text, string title, string[] head, IEnumerable<string[]> rows)
    {
        var all = rows.ToList();
        if (all.Count == 0)
        {
            return;
        }

        text.Append(CultureInfo.InvariantCulture, $"\n## {title}\n\n| {string.Join(" | ", head)} |\n|{string.Concat(head.Select(_ => " --- |"))}\n");
        foreach (var row in all)
        {
            text.Append(CultureInfo.InvariantCulture, $"| {string.Join(" | ", row.Select(Cell))} |\n");
        }
    }

    private static string Cell(string text) => Printable(text.ReplaceLineEndings(" ")).Replace("|", "\\|", StringComparison.Ordinal);

    private static string Printable(string text) => string.Concat(text.Select(c => char.IsControl(c) ? ' ' : c));

    private static string Loss(double value) => Fixed(value, 4);

    private static string Fixed(double value, int digits) => value.ToString($"F{digits}", CultureInfo.InvariantCulture);

    private static string Number(long value) => value.ToString("N0", CultureInfo.InvariantCulture);
}
