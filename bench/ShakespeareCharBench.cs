using System.Globalization;
using System.Text;
using System.Text.Json;

namespace LlmPipeline.Bench;

/// <summary>
/// nanoGPT's shakespeare_char: validation loss over the whole validation set, by seed. The set-up is the one for a CPU, with the same
/// run on two workers, or with <c>--gpu</c> the one for a GPU.
/// </summary>
internal static class ShakespeareCharBench
{
    private static readonly SetUp Cpu = new(
        "shakespeare-char", "CPU set-up", 1.92, [1, 2], [], "", "4 layers, 4 heads, width 128, context 64, batch 12, 2,000 steps", "nanoGPT's README gives 1.88 on 20 random batches");

    private static readonly SetUp Gpu = new(
        "shakespeare-char-gpu", "GPU set-up", 1.48, [1], ["--device", "cuda", "--gpus", "1"], " --gpu", "6 layers, 6 heads, width 384, context 256, batch 64, dropout 0.2, 5,000 steps in bf16",
        "nanoGPT's README gives 1.4697 on 200 random batches");

    public static async Task<int> RunAsync(string text, string[] arguments)
    {
        var setUp = arguments.Contains("--gpu") ? Gpu : Cpu;
        arguments = [.. arguments.Except(["--gpu"])];
        var seeds = arguments.Length > 0 ? arguments.Select(a => int.Parse(a, CultureInfo.InvariantCulture)).ToArray() : [1, 2, 3];
        var storage = Directory.CreateTempSubdirectory("llmpipeline-shakespeare-").FullName;
        var rows = new StringBuilder();
        var losses = new List<double>();
        var curves = new Dictionary<int, double[]>();
        try
        {
            foreach (var workers in setUp.Workers)
            {
                await using var application = Application.Start(Machine.RepositoryRoot, ["--workers", $"{workers}", .. setUp.Arguments], storage);
                await application.WaitForLineAsync(l => l.StartsWith("All services are ready", StringComparison.Ordinal), TimeSpan.FromMinutes(5));
                foreach (var seed in workers == 1 ? seeds : [seeds[0]])
                {
                    var run = $"shakespeare-{workers}-{seed}";
                    Console.WriteLine($"== seed {seed}, {workers} workers");
                    await CliAsync("train", $"samples/{setUp.Name}.yaml", "--set", $"dataset.sources={text}", "--set", $"seed={seed}",
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

        var difference = curves.Count < 2 ? 0 : curves[1].Zip(curves[2], (a, b) => Math.Abs(a - b)).Max();
        var comparison = curves.Count < 2 ? ""
            : string.Create(CultureInfo.InvariantCulture, $"Largest difference of the training loss between one and two workers, over {curves[1].Length} steps: {difference:G3} nats.\n\n");
        var mean = losses.Average();
        var last = string.Create(CultureInfo.InvariantCulture, $"{setUp.Name}: {mean:F4} nats (goal {setUp.Goal:F2})");
        await Machine.PublishAsync(setUp.Name, $"""
            # nanoGPT's shakespeare_char, {setUp.Title}

            {await Machine.DescribeAsync("dotnet run -c Release --project bench -- shakespeare-char input.txt " + string.Join(' ', seeds) + setUp.Option)}

            `samples/{setUp.Name}.yaml`: {setUp.Sizes}. The loss is that of the best checkpoint over the whole validation set, in nats per character; beside it the Kneser-Ney n-gram of order 7 on the same tokens. {setUp.Published}.

            | workers | seed | loss | accuracy | n-gram loss | tokens | seconds of training |
            | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
            {rows}
            {comparison}{last}
            """);
        return mean <= setUp.Goal && difference <= 1e-5 ? 0 : 1;
    }

    /// <summary>What is trained.</summary>
    /// <param name="Name">Of the sample and of the result.</param>
    /// <param name="Title">Of the result.</param>
    /// <param name="Goal">Most that the mean loss may be.</param>
    /// <param name="Workers">On how many workers.</param>
    /// <param name="Arguments">Of the AppHost.</param>
    /// <param name="Option">Takes this set-up.</param>
    /// <param name="Sizes">In words.</param>
    /// <param name="Published">In words.</param>
    private sealed record SetUp(string Name, string Title, double Goal, int[] Workers, string[] Arguments, string Option, string Sizes, string Published);

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
