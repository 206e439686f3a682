using System.Globalization;
using System.Text;
using LlmPipeline.Bench.Mr;

namespace LlmPipeline.Bench.Quality;

/// <summary>
/// The published numbers that this product reproduces, in one table. Everything that was measured is kept: an interrupted bench
/// goes on where it was. What is kept belongs to run files and settings, not to the code: <c>--anew</c> throws it away.
/// </summary>
internal static class QualityBench
{
    private const string Shakespeare = "Tiny Shakespeare, characters";
    private const string WarAndPeace = "War and Peace, characters";
    private const double CpuGoal = 1.92;

    private static readonly string[] Parts = ["train", "valid", "test"];
    private static readonly string[] Cells = ["rnn", "lstm", "gru"];

    /// <param name="arguments"><c>--full</c>: 3 seeds and 50 epochs of War and Peace as well; <c>--anew</c>; <c>workers=N</c>.</param>
    public static async Task<int> RunAsync(string[] arguments)
    {
        var data = Machine.TestData;
        var full = arguments.Contains("--full");
        var workers = arguments.FirstOrDefault(a => a.StartsWith("workers=", StringComparison.Ordinal)) is { } given ? int.Parse(given.AsSpan(8), CultureInfo.InvariantCulture) : 2;
        var folder = Path.Combine(Path.GetTempPath(), "llmpipeline-bench", "quality");
        if (arguments.Contains("--anew") && Directory.Exists(folder))
        {
            Directory.Delete(folder, recursive: true);
        }

        Directory.CreateDirectory(folder);
        var figures = new List<Figure> { ExactFigures.Stories(data), ExactFigures.Gpt2Tokens(data), ExactFigures.SubwordNmt(data), ExactFigures.SacreBleu(data) };
        var rows = new StringBuilder();
        await using (var runs = new TrainingRuns(folder, workers))
        {
            var text = Path.Combine(data, "tinyshakespeare", "input.txt");
            var gpt = await SeedsAsync(runs, rows, seed => new(Shakespeare, "gpt2 4 x 128, context 64, 2,000 steps", "samples/shakespeare-char.yaml", [$"dataset.sources={text}", $"seed={seed}"]));
            figures.Add(new Figure("nanoGPT shakespeare_char, CPU set-up", "1.88; at most 1.92 over the whole set", Show(gpt), gpt.Average(t => t.Loss) <= CpuGoal));
            figures.Add(await RecurrentOrderAsync(runs, rows, text));
            figures.AddRange(await WarAndPeaceAsync(runs, rows, data, folder, full));
        }

        figures.AddRange(await MrBench.MeasureAsync(anew: arguments.Contains("--anew")));
        var held = figures.Count(f => f.Holds);
        var last = $"quality: {held} of {figures.Count} published results reproduced (goal {figures.Count} of {figures.Count})";
        await Machine.PublishAsync("quality", $"""
            # Published numbers, reproduced

            {await Machine.DescribeAsync("dotnet run -c Release --project bench -- quality" + (full ? " --full" : ""))}

            Networks are trained by the application from run files in `samples/`, by {workers} workers (the number of workers does not show in a result), and evaluated by it over the whole split. Losses are those of the checkpoint with the lowest validation loss, in nats per token. Sentence polarity (MR) is trained by its training loop: `mr.md`.

            | what | published | measured | holds |
            | --- | --- | --- | --- |
            {string.Join('\n', figures.Select(f => $"| {f.Work} | {f.Published} | {f.Measured} | {(f.Holds ? "yes" : "NO")} |"))}

            Every training. The n-gram is an interpolated modified Kneser-Ney model of the same tokens, trained in seconds: where it is lower, it is the better model.

            | text | network | loss by seed | mean | accuracy | n-gram loss | tokens | seconds of training |
            | --- | --- | --- | ---: | ---: | ---: | ---: | ---: |
            {rows.ToString().TrimEnd()}

            {last}
            """);
        return held == figures.Count ? 0 : 1;
    }

    /// <summary>Two layers of 128: a gated unit is better than a recurrent network without gates, and GRU best of all.</summary>
    private static async Task<Figure> RecurrentOrderAsync(TrainingRuns runs, StringBuilder rows, string text)
    {
        var losses = new Dictionary<string, List<Trained>>();
        foreach (var cell in Cells)
        {
            losses[cell] = await SeedsAsync(runs, rows, seed => new(Shakespeare, $"{cell} 2 x 128, 1,500 steps", $"samples/shakespeare-{cell}.yaml", [$"dataset.sources={text}", $"seed={seed}"]));
        }

        var ordered = IsBelow(losses["gru"], losses["lstm"]) && IsBelow(losses["lstm"], losses["rnn"]);
        return new Figure("Tiny Shakespeare: GRU < LSTM < RNN, by seed", "1.618 < 1.671 < 1.706", string.Join(", ", Cells.Reverse().Select(c => Show(losses[c]))), ordered);
    }

    // Of the same seed, beyond twice the standard error of the difference.
    private static bool IsBelow(List<Trained> a, List<Trained> b)
    {
        var differences = a.Zip(b, (x, y) => y.Loss - x.Loss).ToArray();
        var mean = differences.Average();
        var variance = differences.Sum(d => (d - mean) * (d - mean)) / (differences.Length - 1);
        return mean > 2 * Math.Sqrt(variance / differences.Length);
    }

    /// <summary>Karpathy, Johnson and Fei-Fei 2015, table 1: from 128 units on, LSTM and GRU are clearly below RNN.</summary>
    private static async Task<List<Figure>> WarAndPeaceAsync(TrainingRuns runs, StringBuilder rows, string data, string folder, bool full)
    {
        var text = Path.Combine(folder, "warandpeace.txt");
        await File.WriteAllTextAsync(text, string.Concat(Parts.Select(f => File.ReadAllText(Path.Combine(data, "warandpeace", f + ".txt")))));
        var figures = new List<Figure>();
        foreach (var layers in new[] { 1, 2 })
        {
            var losses = new Dictionary<string, List<Trained>>();
            foreach (var cell in Cells)
            {
                losses[cell] = await SeedsAsync(runs, rows, seed => new(WarAndPeace, $"{cell} {layers} x 128, {(full ? 50 : 4)} epochs", "samples/warandpeace.yaml",
                    [$"dataset.sources={text}", $"model.architecture={cell}", $"model.layers={layers}", $"seed={seed}", .. full ? [$"training.steps={50 * StepsPerEpoch}"] : Array.Empty<string>()]), full ? 3 : 1);
            }

            var published = layers == 1 ? "1.417, 1.277, 1.230" : "1.286, 1.227, 1.226";
            figures.Add(new Figure($"War and Peace, {layers} x 128: LSTM and GRU clearly below RNN", $"RNN, LSTM, GRU after 50 epochs {published}",
                string.Join(", ", Cells.Select(c => full ? Show(losses[c]) : Mean(c).ToString("F4", CultureInfo.InvariantCulture))) + (full ? "" : " after 4 epochs"),
                Mean("lstm") < Mean("rnn") - 0.02 && Mean("gru") < Mean("rnn") - 0.02));

            double Mean(string cell) => losses[cell].Average(t => t.Loss);
        }

        return figures;
    }

    // 2,566,589 characters in batches of 25 sequences of 100.
    private const int StepsPerEpoch = 1024;

    private static async Task<List<Trained>> SeedsAsync(TrainingRuns runs, StringBuilder rows, Func<int, Training> training, int seeds = 3)
    {
        var results = new List<Trained>();
        for (var seed = 1; seed <= seeds; seed++)
        {
            results.Add(await runs.GetAsync(training(seed)));
        }

        AddRow(rows, training(1).Group, training(1).Name, results);
        return results;
    }

    private static void AddRow(StringBuilder rows, string text, string network, List<Trained> results) => rows.AppendLine(CultureInfo.InvariantCulture,
        $"| {text} | {network} | {string.Join(", ", results.Select(r => r.Loss.ToString("F4", CultureInfo.InvariantCulture)))} | {results.Average(r => r.Loss):F4} | {results.Average(r => r.Accuracy):P1} | {results[0].NgramLoss:F4} | {results[0].TokenCount} | {results.Average(r => r.TrainSeconds):F0} |");

    private static string Show(List<Trained> results) => string.Create(CultureInfo.InvariantCulture,
        $"{results.Average(r => r.Loss):F4} ({results.Min(r => r.Loss):F4}-{results.Max(r => r.Loss):F4})");
}
