using System.Globalization;
using LlmPipeline.Runs.V1;

namespace LlmPipeline.Bench.Diloco;

/// <summary>
/// Low-communication training beside the synchronous run on the same tokens: perplexity, bytes sent, and the wall time on a slow
/// link. Members are processes that exchange over gRPC.
/// </summary>
internal static class DilocoBench
{
    private const int Steps = 3000;
    private const int LinkSteps = 100;
    private const int GoalSteps = 50;
    private const double Goal = 0.02;
    private const string Rate = "8mbit";

    private static readonly int[] Seeds = [1, 2, 3];

    /// <param name="arguments"><c>--anew</c> forgets what was measured.</param>
    public static async Task<int> RunAsync(string[] arguments)
    {
        if (Environment.GetEnvironmentVariable("LLMPIPELINE_TEST_DATA") is not { Length: > 0 } data)
        {
            Console.Error.WriteLine("Set LLMPIPELINE_TEST_DATA to the folder with tinyshakespeare and warandpeace.");
            return 2;
        }

        var folder = Path.Combine(Path.GetTempPath(), "llmpipeline-bench", "diloco");
        if (arguments.Contains("--anew") && Directory.Exists(folder))
        {
            Directory.Delete(folder, recursive: true);
        }

        Directory.CreateDirectory(folder);
        var runs = new DilocoRuns(folder);
        DilocoJob[] texts =
        [
            new("Tiny Shakespeare", Path.Combine(data, "tinyshakespeare", "input.txt"), null, 1, null, 1, Steps),
            new("War and Peace", Path.Combine(data, "warandpeace", "train.txt"), Path.Combine(data, "warandpeace", "valid.txt"), 1, null, 1, Steps),
        ];
        var (rows, worst) = await CompareAsync(runs, texts);
        var curve = await CurveAsync(runs, texts[0]);
        var wires = await WiresAsync(runs, texts[0]);
        var link = await LinkAsync(runs, texts[0]);
        var last = string.Create(CultureInfo.InvariantCulture, $"diloco: {worst:+0.0%;-0.0%} perplexity at H = {GoalSteps}, at worst (goal +{Goal:P0})");
        await Machine.PublishAsync("diloco", $"""
            # Low-communication training

            {await Machine.DescribeAsync("dotnet run -c Release --project bench -- diloco")}

            A Transformer on characters (2 layers, width 64, 4 heads, context 32; 0.1 million parameters), {Steps:N0} steps of {DilocoJob.Batch} sequences over all workers, AdamW, learning rate 2e-3 with 100 steps of warm-up and a cosine to 0; `training.local`: outer learning rate {OuterRate:0.##}, Nesterov momentum {OuterMomentum:0.##}, optimizer state averaged. Synchronous and local runs see the same tokens. Perplexity per character, over 1,000 sequences of the validation text. Workers are processes; bytes are those that rank 0 sent in exchanges of gradients, without validation.

            ## Perplexity at H = {GoalSteps}

            Mean over seeds {string.Join(", ", Seeds)} (smallest to largest); the synchronous run gives the same bits on any number of workers.

            | text | workers | synchronous | H = {GoalSteps} | difference of the means | MB sent, synchronous | MB sent, H = {GoalSteps} | times less |
            | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
            {rows}

            ## By H: Tiny Shakespeare, 2 workers, seed 1

            | H | perplexity | to the synchronous run | MB sent | times less |
            | ---: | ---: | ---: | ---: | ---: |
            {curve}

            ## What is sent: Tiny Shakespeare, 2 workers, H = {GoalSteps}, seed 1

            | wire | optimizer state | perplexity | to the synchronous run | MB sent | times less |
            | --- | --- | ---: | ---: | ---: | ---: |
            {wires}

            ## On a link of {Rate}

            Tiny Shakespeare, 2 workers in network namespaces, {LinkSteps} steps, `tc tbf` in both directions.

            | run | seconds | MB sent | seconds without the limit |
            | --- | ---: | ---: | ---: |
            {link}

            {last}
            """);
        return worst <= Goal ? 0 : 1;
    }

    private const double OuterRate = 1;
    private const double OuterMomentum = 0.7;

    private static LocalSpec Local(int steps, int shards, string wire = "fp32", string state = "average") => new()
    {
        Steps = steps,
        Shards = shards,
        OuterLearningRate = OuterRate,
        OuterMomentum = OuterMomentum,
        Wire = wire,
        OptimizerState = state,
    };

    private static async Task<(string Rows, double Worst)> CompareAsync(DilocoRuns runs, DilocoJob[] texts)
    {
        var rows = new List<string>();
        var worst = double.NegativeInfinity;
        foreach (var text in texts)
        {
            var synchronous = new List<DilocoResult>();
            foreach (var seed in Seeds)
            {
                synchronous.Add(await runs.GetAsync(text with { Seed = seed, Workers = 2 }));
            }

            foreach (var workers in new[] { 2, 4 })
            {
                var local = new List<DilocoResult>();
                foreach (var seed in Seeds)
                {
                    local.Add(await runs.GetAsync(text with { Seed = seed, Workers = workers, Local = Local(GoalSteps, workers) }));
                }

                var bytes = await SynchronousBytesAsync(runs, text, workers);
                var difference = (local.Average(r => r.Perplexity) / synchronous.Average(r => r.Perplexity)) - 1;
                worst = Math.Max(worst, difference);
                rows.Add(string.Create(CultureInfo.InvariantCulture,
                    $"| {text.Name} | {workers} | {Spread(synchronous)} | {Spread(local)} | {difference:+0.0%;-0.0%} | {bytes / 1e6:F0} | {local[0].BytesSent / 1e6:F1} | {bytes / local[0].BytesSent:F0} |"));
            }
        }

        return (string.Join('\n', rows), worst);
    }

    private static async Task<string> CurveAsync(DilocoRuns runs, DilocoJob text)
    {
        var synchronous = await runs.GetAsync(text with { Workers = 2 });
        var rows = new List<string> { Row("1", synchronous) };
        foreach (var steps in new[] { 10, 50, 200 })
        {
            rows.Add(Row($"{steps}", await runs.GetAsync(text with { Workers = 2, Local = Local(steps, 2) })));
        }

        return string.Join('\n', rows);

        string Row(string name, DilocoResult result) => $"| {name} | {Beside(result, synchronous)} |";
    }

    private static async Task<string> WiresAsync(DilocoRuns runs, DilocoJob text)
    {
        var synchronous = await runs.GetAsync(text with { Workers = 2 });
        var rows = new List<string>();
        foreach (var (wire, state) in new[] { ("fp32", "average"), ("int16", "average"), ("int8", "average"), ("int8", "reset") })
        {
            var result = await runs.GetAsync(text with { Workers = 2, Local = Local(GoalSteps, 2, wire, state) });
            rows.Add($"| {wire} | {state} | {Beside(result, synchronous)} |");
        }

        return string.Join('\n', rows);
    }

    private static async Task<string> LinkAsync(DilocoRuns runs, DilocoJob text)
    {
        var rows = new List<string>();
        foreach (var (name, local) in new (string, LocalSpec?)[]
        {
            ("synchronous ring", null),
            ($"H = {GoalSteps}, fp32", Local(GoalSteps, 2)),
            ($"H = {GoalSteps}, int8, optimizer state reset", Local(GoalSteps, 2, "int8", "reset")),
        })
        {
            var job = text with { Workers = 2, Local = local, Steps = LinkSteps };
            if (await runs.GetOverLinkAsync(job, Rate) is not { } slow)
            {
                return "| not measured: needs root and iproute2 | | | |";
            }

            var fast = await runs.GetAsync(job);
            rows.Add(string.Create(CultureInfo.InvariantCulture, $"| {name} | {slow.Seconds:F1} | {slow.BytesSent / 1e6:F2} | {fast.Seconds:F1} |"));
        }

        return string.Join('\n', rows);
    }

    /// <summary>What a step sends does not depend on the step, but for leading zeros: a few steps tell it of a number of workers.</summary>
    private static async Task<double> SynchronousBytesAsync(DilocoRuns runs, DilocoJob text, int workers)
    {
        if (workers == 2)
        {
            return (await runs.GetAsync(text with { Workers = 2 })).BytesSent;
        }

        const int Few = 60;
        return (double)(await runs.GetAsync(text with { Workers = workers, Steps = Few })).BytesSent / Few * Steps;
    }

    private static string Beside(DilocoResult result, DilocoResult synchronous) => string.Create(CultureInfo.InvariantCulture,
        $"{result.Perplexity:F3} | {(result.Perplexity / synchronous.Perplexity) - 1:+0.0%;-0.0%;0.0%} | {result.BytesSent / 1e6:F1} | {(double)synchronous.BytesSent / result.BytesSent:F0}");

    private static string Spread(List<DilocoResult> results) => string.Create(CultureInfo.InvariantCulture,
        $"{results.Average(r => r.Perplexity):F3} ({results.Min(r => r.Perplexity):F3} to {results.Max(r => r.Perplexity):F3})");
}
