using System.Diagnostics;
using System.Globalization;
using System.Text;
using LlmPipeline.Bench.Measuring;
using LlmPipeline.Text.NGrams;

namespace LlmPipeline.Bench;

/// <summary>N-gram models on public text: whether the losses are the published ones, and what training and evaluation cost.</summary>
internal static class NgramBench
{
    private const int Repeats = 3;

    /// <summary>Figures that independent implementations give; those of a goal have a tolerance.</summary>
    private static readonly Case[] Cases =
    [
        new("wikitext-2 words", 3, "test", 226.0, 0.5, true),
        new("wikitext-2 words", 3, "valid", 242.4, 0.5, true),
        new("wikitext-2 words", 5, "test", 220.1, 0.5, true),
        new("wikitext-2 words", 5, "valid", 234.9, 0.5, true),
        new("tinyshakespeare characters", 7, "valid", 1.5165, 0.002, false),
        new("warandpeace characters", 8, "test", 1.2658, 0.002, false),
        new("warandpeace words", 3, "test", 198.8, null, true),
        new("warandpeace words", 5, "test", 198.5, null, true),
    ];

    public static async Task<int> RunAsync(string[] arguments)
    {
        var data = arguments is [var folder, ..] ? Path.GetFullPath(folder) : Machine.TestData;
        var quality = new StringBuilder();
        var cost = new StringBuilder();
        var (met, wanted) = (0, 0);
        foreach (var group in Cases.GroupBy(c => (c.Text, c.Order)))
        {
            var runs = await MeasureAsync(data, group.Key.Text, group.Key.Order);
            foreach (var one in group)
            {
                var loss = Number(runs[0], $"{one.Split}_loss");
                var figure = one.IsPerplexity ? Math.Exp(loss) : loss;
                var within = Math.Abs(figure - one.Published) <= one.Tolerance;
                wanted += one.Tolerance is null ? 0 : 1;
                met += within ? 1 : 0;
                quality.AppendLine(CultureInfo.InvariantCulture,
                    $"| {one.Text} | {one.Order} | {one.Split} | {(one.IsPerplexity ? $"perplexity | {figure:F2}" : $"nats/character | {figure:F4}")} | {one.Published} | {(one.Tolerance is { } t ? $"{t} | {(within ? "yes" : "NO")}" : "- | not a goal")} |");
            }

            cost.AppendLine(Cost(group.Key.Text, group.Key.Order, runs));
        }

        var smoothings = new StringBuilder();
        foreach (var smoothing in NgramOptions.SmoothingNames)
        {
            var run = await MeasureOnceAsync(data, "wikitext-2 words", 3, smoothing);
            smoothings.AppendLine(CultureInfo.InvariantCulture,
                $"| {smoothing} | {Number(run, "test_loss"):F4} | {Math.Exp(Number(run, "test_loss")):F1} | {Number(run, "test_accuracy"):P2} | {Number(run, "test_impossible"):N0} |");
        }

        await Machine.PublishAsync("ngram", $"""
            # N-gram models

            {await Machine.DescribeAsync("dotnet run -c Release --project bench -- ngram")}

            Interpolated modified Kneser-Ney (Chen and Goodman 1998) against the figures of independent implementations with the same definition. Words are separated by blanks, lines are documents whose end is predicted; in War and Peace empty lines are left out, and words seen less than 3 times in training are `<unk>`. Characters are one document, of which all but the first are predicted.

            | text | order | split | figure | measured | published | tolerance | within |
            | --- | ---: | --- | --- | ---: | ---: | ---: | --- |
            {quality}
            What it costs, medians of {Repeats} processes (spread in brackets). Training goes from ids in memory to probabilities; loading reads the file of counts and estimates again; evaluation includes the most likely id of each context.

            | text | order | n-grams | training s | CPU s | file MB | loading s | evaluation tokens/s | peak MB of the process |
            | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
            {cost}
            The smoothings on WikiText-2 words, order 3, test split. Without smoothing, tokens that were never seen after their context have probability 0, and the perplexity is infinite:

            | smoothing | nats/token | perplexity | accuracy | tokens of probability 0 |
            | --- | ---: | ---: | ---: | ---: |
            {smoothings}
            ngram: {met} of {wanted} published figures reproduced (goal {wanted} of {wanted})
            """);
        return met == wanted ? 0 : 1;
    }

    /// <summary>One training and evaluation, in a process of its own; prints its numbers.</summary>
    public static int RunOne(string data, string text, string order, string smoothing)
    {
        var splits = NgramTexts.Read(data, text);
        var options = new NgramOptions { Order = int.Parse(order, CultureInfo.InvariantCulture), Smoothing = NgramOptions.ParseSmoothing(smoothing) };
        using var process = Process.GetCurrentProcess();
        var (cpu, start) = (process.TotalProcessorTime, Stopwatch.GetTimestamp());
        var model = NgramModel.Train(splits.Train, splits.VocabularySize, 0, options);
        MeasuredProcess.Say("train_seconds", Stopwatch.GetElapsedTime(start).TotalSeconds);
        process.Refresh();
        MeasuredProcess.Say("train_cpu_seconds", (process.TotalProcessorTime - cpu).TotalSeconds);
        MeasuredProcess.Say("ngrams", model.Counts.NgramCount);
        foreach (var (name, split) in splits.Measured)
        {
            start = Stopwatch.GetTimestamp();
            var measured = NgramMeasurement.Of(model, split, splits.First);
            MeasuredProcess.Say($"{name}_tokens_per_second", measured.PredictionCount / Stopwatch.GetElapsedTime(start).TotalSeconds);
            MeasuredProcess.Say($"{name}_tokens", measured.PredictionCount);
            MeasuredProcess.Say($"{name}_loss", measured.Loss);
            MeasuredProcess.Say($"{name}_accuracy", (double)measured.CorrectCount / measured.PredictionCount);
            MeasuredProcess.Say($"{name}_impossible", measured.ImpossibleCount);
        }

        var path = Path.GetTempFileName();
        try
        {
            using (var file = File.Create(path))
            {
                model.Counts.Write(file);
            }

            MeasuredProcess.Say("file_bytes", new FileInfo(path).Length);
            start = Stopwatch.GetTimestamp();
            _ = new NgramModel(NgramCounts.Read(path), options);
            MeasuredProcess.Say("load_seconds", Stopwatch.GetElapsedTime(start).TotalSeconds);
        }
        finally
        {
            File.Delete(path);
        }

        return 0;
    }

    private static async Task<List<Measurement>> MeasureAsync(string data, string text, int order)
    {
        var runs = new List<Measurement>();
        for (var i = 0; i < Repeats; i++)
        {
            runs.Add(await MeasureOnceAsync(data, text, order, NgramOptions.SmoothingNames[0]));
        }

        return runs;
    }

    private static Task<Measurement> MeasureOnceAsync(string data, string text, int order, string smoothing) =>
        MeasuredProcess.RunSelfAsync("ngram-one", data, text, order.ToString(CultureInfo.InvariantCulture), smoothing);

    private static string Cost(string text, int order, List<Measurement> runs)
    {
        var split = runs[0].Output.Contains("test_loss", StringComparison.Ordinal) ? "test" : "valid";
        return string.Create(CultureInfo.InvariantCulture,
            $"| {text} | {order} | {Number(runs[0], "ngrams"):N0} | {Median("train_seconds"):F2} ({Spread("train_seconds")}) | {Median("train_cpu_seconds"):F2} ({Spread("train_cpu_seconds")}) | {Number(runs[0], "file_bytes") / 1e6:F1} | {Median("load_seconds"):F2} ({Spread("load_seconds")}) | {Median($"{split}_tokens_per_second"):N0} | {runs.Max(r => r.PeakBytes) / 1e6:N0} |");

        double[] Sorted(string name) => [.. runs.Select(r => Number(r, name)).Order()];
        double Median(string name) => Sorted(name)[runs.Count / 2];
        string Spread(string name) => string.Create(CultureInfo.InvariantCulture, $"{Sorted(name)[0]:F2}-{Sorted(name)[^1]:F2}");
    }

    private static double Number(Measurement run, string name) =>
        MeasuredProcess.Said(run.Output, name) ?? throw new InvalidOperationException($"The process did not say {name}.");

    private sealed record Case(string Text, int Order, string Split, double Published, double? Tolerance, bool IsPerplexity);
}
