using System.Globalization;
using System.Text.Json;
using LlmPipeline.Bench.Quality;

namespace LlmPipeline.Bench;

/// <summary>What each means against overfitting does alone and together: the run files of <c>samples/ablation</c>, through the application.</summary>
internal static class AblationBench
{
    private const int TrainLossSteps = 50;
    private const string Baseline = "baseline";

    private static readonly string[] Order = [Baseline, "dropout", "weight-decay", "l2", "label-smoothing", "early-stopping", "dropout-weight-decay", "all"];

    /// <param name="text">Tiny Shakespeare.</param>
    /// <param name="arguments"><c>--anew</c> forgets what was measured; <c>workers=N</c>, by default 1.</param>
    public static async Task<int> RunAsync(string text, string[] arguments)
    {
        var workers = arguments.FirstOrDefault(a => a.StartsWith("workers=", StringComparison.Ordinal)) is { } given ? int.Parse(given.AsSpan(8), CultureInfo.InvariantCulture) : 1;
        var folder = Path.Combine(Path.GetTempPath(), "llmpipeline-bench", "ablation");
        if (arguments.Contains("--anew") && Directory.Exists(folder))
        {
            Directory.Delete(folder, recursive: true);
        }

        Directory.CreateDirectory(folder);
        var rows = new List<Row>();
        await using (var runs = new TrainingRuns(folder, workers, "ablation"))
        {
            foreach (var name in Order)
            {
                var training = new Training("Tiny Shakespeare, 20,000 characters", name, $"samples/ablation/{name}.yaml", [$"dataset.sources={text}"]);
                var trained = await runs.GetAsync(training);
                rows.Add(Row.Of(name, trained, Metrics(Path.Combine(folder, "storage", "runs", runs.IdOf(training), "metrics"))));
            }
        }

        var baseline = rows[0];
        var better = rows.Skip(1).Count(r => r.Trained.Loss < baseline.Trained.Loss);
        var gentler = rows.Skip(1).Count(r => r.LastValidation < baseline.LastValidation);
        var last = string.Create(CultureInfo.InvariantCulture,
            $"ablation: {gentler} of {rows.Count - 1} end below the baseline's last validation loss, {better} have a better best model (goal {rows.Count - 1} end below)");
        var table = string.Join('\n', rows.Select(r => r.Line()));
        await Machine.PublishAsync("ablation", $"""
            # Against overfitting: each means alone and together

            {await Machine.DescribeAsync("dotnet run -c Release --project bench -- ablation input.txt")}

            Run files in `samples/ablation`: a Transformer of 2 layers and width 128 on the first 20,000 characters of Tiny Shakespeare, at most 2,400 steps of 512 characters (61 epochs), one seed. Losses are in nats per character. Training: the mean over the last {TrainLossSteps} steps, with the dropout and the smoothed targets that were trained with. Validation, best and last: over 300 sequences each 100 steps, without either. Whole split and perplexity: the best checkpoint, as evaluated after the run. Seconds are those of training, on a machine that did other work too.

            | run | steps | training | validation, best | at step | validation, last | whole split | perplexity | seconds |
            | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
            {table}
            | n-gram (interpolated modified Kneser-Ney, order 5) | | | | | | {Number(baseline.Trained.NgramLoss)} | {Number(Math.Exp(baseline.Trained.NgramLoss))} | |

            {last}
            """);
        return gentler == rows.Count - 1 ? 0 : 1;
    }

    /// <summary>Training and validation loss of every step, as recorded.</summary>
    private static SortedDictionary<long, (double Train, double? Validation)> Metrics(string folder)
    {
        var steps = new SortedDictionary<long, (double, double?)>();
        foreach (var line in Directory.EnumerateFiles(folder, "*.jsonl").Order(StringComparer.Ordinal).SelectMany(File.ReadLines))
        {
            using var step = JsonDocument.Parse(line);
            steps[long.Parse(step.RootElement.GetProperty("step").GetString()!, CultureInfo.InvariantCulture)] =
                (step.RootElement.GetProperty("trainLoss").GetDouble(), step.RootElement.TryGetProperty("validationLoss", out var loss) ? loss.GetDouble() : null);
        }

        return steps;
    }

    private static string Number(double value) => value.ToString("F4", CultureInfo.InvariantCulture);

    private sealed record Row(string Name, Trained Trained, long Steps, double TrainLoss, double BestValidation, long BestStep, double LastValidation)
    {
        public static Row Of(string name, Trained trained, SortedDictionary<long, (double Train, double? Validation)> metrics)
        {
            var validations = metrics.Where(m => m.Value.Validation is not null).Select(m => (Step: m.Key, Loss: m.Value.Validation!.Value)).ToList();
            var best = validations.MinBy(v => v.Loss);
            return new Row(name, trained, metrics.Keys.Last(), metrics.Values.TakeLast(TrainLossSteps).Average(m => m.Train), best.Loss, best.Step, validations[^1].Loss);
        }

        public string Line() => string.Create(CultureInfo.InvariantCulture,
            $"| {Name} | {Steps} | {TrainLoss:F4} | {BestValidation:F4} | {BestStep} | {LastValidation:F4} | {Trained.Loss:F4} | {Math.Exp(Trained.Loss):F3} | {Trained.TrainSeconds:F0} |");
    }
}
