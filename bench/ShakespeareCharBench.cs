using System.Globalization;
using System.Text;
using System.Text.Json;

namespace LlmPipeline.Bench;

/// <summary>nanoGPT's shakespeare_char, CPU set-up: validation loss over the whole validation set, by seed, and the same run on two workers.</summary>
internal static class ShakespeareCharBench
{
    private const double Goal = 1.92;

    public static async Task<int> RunAsync(string text, string[] arguments)
    {
        var seeds = arguments.Length > 0 ? arguments.Select(a => int.Parse(a, CultureInfo.InvariantCulture)).ToArray() : [1, 2, 3];
        var storage = Directory.CreateTempSubdirectory("llmpipeline-shakespeare-").FullName;
        var rows = new StringBuilder();
        var losses = new List<double>();
        var curves = new Dictionary<int, double[]>();
        try
        {
            foreach (var workers in new[] { 1, 2 })
            {
                await using var application = Application.Start(Machine.RepositoryRoot, ["--workers", $"{workers}"], storage);
                await application.WaitForLineAsync(l => l.Contains("http://localhost:5081", StringComparison.Ordinal), TimeSpan.FromMinutes(5));
                foreach (var seed in workers == 1 ? seeds : [seeds[0]])
                {
                    var run = $"shakespeare-{workers}-{seed}";
                    Console.WriteLine($"== seed {seed}, {workers} workers");
                    await CliAsync("train", "samples/shakespeare-char.yaml", "--set", $"dataset.sources={text}", "--set", $"seed={seed}",
                        "--set", $"training.start_workers={workers}", "--run-id", run, "--follow");
                    using var shown = JsonDocument.Parse(await CliAsync("runs", "show", run, "--json"));
                    var result = shown.RootElement;
                    var evaluation = result.GetProperty("evaluation");
                    var network = evaluation.GetProperty("model");
                    var loss = network.GetProperty("loss").GetDouble();
                    var seconds = result.GetProperty("progress").GetProperty("train_seconds").GetDouble();
                    if (workers == 1)
                    {
                        losses.Add(loss);
                    }

                    _ = curves.TryAdd(workers, TrainLosses(storage, run));
                    rows.AppendLine(CultureInfo.InvariantCulture,
                        $"| {workers} | {seed} | {loss:F4} | {network.GetProperty("accuracy").GetDouble():P1} | {evaluation.GetProperty("ngram").GetProperty("loss").GetDouble():F4} | {network.GetProperty("token_count").GetString()} | {seconds:F0} |");
                }

                await application.StopAsync();
            }
        }
        finally
        {
            Directory.Delete(storage, recursive: true);
        }

        var difference = curves[1].Zip(curves[2], (a, b) => Math.Abs(a - b)).Max();
        var mean = losses.Average();
        var last = string.Create(CultureInfo.InvariantCulture, $"shakespeare-char: {mean:F4} nats (goal {Goal:F2})");
        await Machine.PublishAsync("shakespeare-char", $"""
            # nanoGPT's shakespeare_char, CPU set-up

            {await Machine.DescribeAsync("dotnet run -c Release --project bench -- shakespeare-char input.txt " + string.Join(' ', seeds))}

            `samples/shakespeare-char.yaml`: 4 layers, 4 heads, width 128, context 64, batch 12, 2,000 steps. The loss is that of the best checkpoint over the whole validation set, in nats per character; beside it the Kneser-Ney n-gram of order 7 on the same tokens. nanoGPT's README gives 1.88 on 20 random batches.

            | workers | seed | loss | accuracy | n-gram loss | tokens | seconds of training |
            | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
            {rows}
            Largest difference of the training loss between one and two workers, over {curves[1].Length} steps: {difference.ToString("G3", CultureInfo.InvariantCulture)} nats.

            {last}
            """);
        return mean <= Goal && difference <= 1e-5 ? 0 : 1;
    }

    private static Task<string> CliAsync(params string[] arguments) =>
        Machine.OutputOfAsync("dotnet", ["run", "--project", "Cli", "--", .. arguments], Machine.RepositoryRoot);

    /// <summary>The recorded training loss of every step.</summary>
    private static double[] TrainLosses(string storage, string run)
    {
        var losses = new SortedDictionary<long, double>();
        foreach (var line in Directory.EnumerateFiles(Path.Combine(storage, "runs", run, "metrics"), "*.jsonl").SelectMany(File.ReadLines))
        {
            using var step = JsonDocument.Parse(line);
            losses[long.Parse(step.RootElement.GetProperty("step").GetString()!, CultureInfo.InvariantCulture)] = step.RootElement.GetProperty("trainLoss").GetDouble();
        }

        return [.. losses.Values];
    }
}
