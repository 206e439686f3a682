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
            if (measured.Exists(s => s.HasDeviceMemoryBytes))
            {
                yield return ["most memory of its device in use, MB", Fixed(measured.Max(s => s.DeviceMemoryBytes) / 1e6, 0)];
            }
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

        var precision = run.Events.LastOrDefault(e => e.Kind == RunEvents.PrecisionChosen)?.Message ?? run.Spec.Training?.Precision;
        if (!string.IsNullOrEmpty(precision))
        {
            yield return ["precision", precision];
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

        if (evaluation.Classification is not null)
        {
            Classification(text, evaluation);
            return;
        }

        var isMasked = model.Objective == "masked";
        var columns = new List<(string Title, Func<ModelQuality, string> Figure)>
        {
            (isMasked ? "loss (nats/masked token)" : "loss (nats/token)", q => Loss(q.Loss)),
            (isMasked ? "pseudo-perplexity" : "perplexity", q => Fixed(q.Perplexity, 3)),
        };
        if (model.ImpossibleCount > 0)
        {
            columns.Add(("tokens of probability 0", q => Number(q.ImpossibleCount)));
        }

        if (!isMasked)
        {
            columns.Add(("bits per byte", q => Fixed(q.BitsPerByte, 4)));
        }

        columns.Add((isMasked ? "masked-token accuracy" : "next-token accuracy", q => Fixed(q.Accuracy, 4)));
        if (model.HasBleu || evaluation.Ngram?.HasBleu == true)
        {
            columns.Add(("BLEU of continuations", q => q.HasBleu ? Fixed(q.Bleu, 2) : ""));
        }

        columns.Add((isMasked ? "masked tokens" : "tokens", q => Number(q.TokenCount)));
        var rows = new List<string[]> { Row("model", model) };
        if (evaluation.Ngram is { } ngram)
        {
            rows.Add(Row($"{evaluation.NgramOrder}-gram, Kneser-Ney", ngram));
        }

        Table(text, $"Evaluation on {evaluation.Split}", ["", .. columns.Select(c => c.Title)], rows);
        if (evaluation.Forgetting is { } forgetting)
        {
            Forgotten(text, forgetting, isMasked);
        }

        string[] Row(string name, ModelQuality quality) => [name, .. columns.Select(c => c.Figure(quality))];
    }

    private static void Classification(StringBuilder text, EvaluationResult evaluation)
    {
        var quality = evaluation.Classification;
        Table(text, $"Evaluation on {evaluation.Split}", ["", "documents", "precision", "recall", "F1", .. quality.Classes.Select(c => $"taken for {Label(c.Label)}")],
            quality.Classes.Select(c => (string[])[Label(c.Label), Number(c.DocumentCount), Share(c.Precision), Share(c.Recall), Share(c.F1), .. c.PredictedCounts.Select(Number)]));
        text.Append(CultureInfo.InvariantCulture, $"\nAccuracy {Share(quality.Accuracy)}, macro F1 {Share(quality.MacroF1)}, loss {Loss(evaluation.Model.Loss)} {LossUnit.Of(evaluation)}; ");
        text.Append(CultureInfo.InvariantCulture, $"always '{Cell(Label(quality.MajorityLabel))}' would be {Share(quality.MajorityAccuracy)}.\n");
    }

    private static void Forgotten(StringBuilder text, Forgetting forgetting, bool isMasked)
    {
        Table(text, "Forgetting", [isMasked ? "loss (pseudo-perplexity)" : "loss (perplexity)", "old dataset", "new dataset"],
        [
            ["base", Figures(forgetting.BaseOld), Figures(forgetting.BaseNew)],
            ["fine-tuned", Figures(forgetting.ModelOld), Figures(forgetting.ModelNew)],
        ]);

        static string Figures(ModelQuality quality) => $"{Loss(quality.Loss)} ({Fixed(quality.Perplexity, 3)})";
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

        text.Append(CultureInfo.InvariantCulture, $"\n## {title}\n\n| {string.Join(" | ", head.Select(Cell))} |\n|{string.Concat(head.Select(_ => " --- |"))}\n");
        foreach (var row in all)
        {
            text.Append(CultureInfo.InvariantCulture, $"| {string.Join(" | ", row.Select(Cell))} |\n");
        }
    }

    private static string Cell(string text) => Printable(text.ReplaceLineEndings(" ")).Replace("|", "\\|", StringComparison.Ordinal);

    /// <summary>A label in Markdown, without what would end a <see cref="Cell"/>.</summary>
    private static string Label(string text) => text.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("<", "\\<", StringComparison.Ordinal);

    private static string Printable(string text) => string.Concat(text.Select(c => char.IsControl(c) ? ' ' : c));

    private static string Loss(double value) => Fixed(value, 4);

    private static string Fixed(double value, int digits) => value.ToString($"F{digits}", CultureInfo.InvariantCulture);

    private static string Share(double value) => Fixed(100 * value, 1) + " %";

    private static string Number(long value) => value.ToString("N0", CultureInfo.InvariantCulture);
}
