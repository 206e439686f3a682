using System.Globalization;
using System.Text;
using LlmPipeline.Bench.Measuring;
using LlmPipeline.Fakes;

namespace LlmPipeline.Bench.Exchange;

/// <summary>
/// The all-reduce of gradients over gRPC, beside Gloo and beside the same ring over plain sockets: 10 and 100 million floats, 2 and
/// 4 ranks as processes. All sides stand ready and run in turn.
/// </summary>
internal static class AllReduceBench
{
    private const string Python = "/usr/bin/python3";

    // Until then .NET compiles its busiest methods anew (docs/log.md); training takes thousands of steps.
    private const int WarmUps = 120;
    private const int LongWarmUps = 12;

    private static readonly string[] Sides = ["Gloo", "tcp", "plain", "plain-bf16", "exact", "exact-bf16"];

    // Of Gloo's speed, which floats of 4 bytes, whatever is sent.
    private static readonly Goal[] Goals = [new(10_000_000, "plain", 0.5), new(100_000_000, "plain", 0.4), new(10_000_000, "plain-bf16", 1.0), new(100_000_000, "plain-bf16", 0.6)];

    public static async Task<int> RunAsync(string[] arguments)
    {
        var rounds = arguments.Length > 0 ? int.Parse(arguments[0], CultureInfo.InvariantCulture) : 6;
        var sizes = arguments.Length > 1 ? [int.Parse(arguments[1], CultureInfo.InvariantCulture)] : new[] { 2, 4 };
        var lengths = arguments.Length > 2 ? [int.Parse(arguments[2], CultureInfo.InvariantCulture)] : new[] { 10_000_000, 100_000_000 };
        string torch;
        try
        {
            torch = (await Machine.OutputOfAsync(Python, ["-c", "import torch, torch.distributed; print(torch.__version__)"])).Trim();
        }
        catch (Exception exception) when (exception is InvalidOperationException or System.ComponentModel.Win32Exception)
        {
            Console.WriteLine($"allreduce: not measured, {Python} with torch is needed (Debian: python3-torch). {exception.Message.Trim()} (goal {GoalText})");
            return 1;
        }

        var text = new StringBuilder($"# allreduce: gradients summed over gRPC, beside Gloo and plain sockets\n\n{await Machine.DescribeAsync("dotnet run -c Release --project bench -- allreduce")}\n");
        text.AppendLine(CultureInfo.InvariantCulture, $"- Gloo of PyTorch {torch}; tcp: the same ring over blocking sockets, fp32. Ranks are processes on loopback");
        text.AppendLine(CultureInfo.InvariantCulture, $"- Measured after {WarmUps} all-reduces of each side ({LongWarmUps} of 100 M): until then .NET compiles its busiest methods anew, which takes up to half of the time. GB/s: bytes of the buffer as fp32, whatever is sent, over the time of the slowest rank; medians (best) of runs that all sides take in turn, each after one that is not counted");
        text.AppendLine("- CPU: of a rank and GB of buffer. Allocated: managed memory of a rank and all-reduce, median. exact: integers summed, packed on the wire");
        var (figures, failed) = (new List<string>(), new List<string>());
        foreach (var length in lengths)
        {
            foreach (var size in sizes)
            {
                await MeasureAsync(length, size, length > 50_000_000 ? Math.Max(2, rounds / 2) : rounds, text, figures, failed);
            }
        }

        text.AppendLine().AppendLine(failed.Count == 0 ? "All goals are met." : $"Missed: {string.Join("; ", failed)}.");
        text.AppendLine().Append(CultureInfo.InvariantCulture, $"allreduce: {string.Join(", ", figures)} (goal {GoalText})");
        await Machine.PublishAsync("allreduce", text.ToString());
        return failed.Count == 0 ? 0 : 1;
    }

    private static string GoalText => string.Join(", ", Goals.Select(g => string.Create(CultureInfo.InvariantCulture, $"{g.Side} at {g.Length / 1_000_000} M at least {g.Share} of Gloo's GB/s")));

    private static async Task MeasureAsync(int length, int size, int rounds, StringBuilder text, List<string> figures, List<string> failed)
    {
        Console.WriteLine($"== {length / 1_000_000} M floats, {size} ranks");
        var ports = FreePort.Several((2 * size) + 1);
        List<RankProcess> gloo = [], ours = [];
        try
        {
            for (var rank = 0; rank < size; rank++)
            {
                gloo.Add(new RankProcess(Python, [Path.Combine(Machine.RepositoryRoot, "bench", "peers", "allreduce_gloo.py"), $"{rank}", $"{size}", $"{length}", $"{ports[^1]}"]));
                ours.Add(RankProcess.OfSelf([AllReduceRank.Command, $"{rank}", $"{size}", $"{length}", .. ports[..^1].Select(p => $"{p}")]));
            }

            await Task.WhenAll(gloo.Concat(ours).Select(rank => rank.ReadyAsync()));
            var results = Sides.ToDictionary(side => side, _ => new List<Run>());
            foreach (var side in Sides)
            {
                await RunAsync(side, length > 50_000_000 ? LongWarmUps : WarmUps);
            }

            for (var round = 0; round < rounds; round++)
            {
                foreach (var side in Sides)
                {
                    results[side].AddRange(await RunAsync(side, length > 50_000_000 ? 1 : 2));
                }
            }

            Tell(length, size, results, text, figures, failed);
        }
        finally
        {
            foreach (var rank in gloo.Concat(ours))
            {
                rank.Dispose();
            }
        }

        // One more of each, that is not counted: in it our buffers get the memory for partial sums, which training keeps for all its steps.
        async Task<IReadOnlyList<Run>> RunAsync(string side, int count)
        {
            var answers = await Task.WhenAll((side == "Gloo" ? gloo : ours).Select(rank => rank.AskAsync(side == "Gloo" ? $"{count + 1}" : $"{side} {count + 1}")));
            return [.. Enumerable.Range(1, count).Select(i => new Run(answers.Max(a => a[i][0]), answers.Average(a => a[i][1]), answers.Average(a => a[i][2])))];
        }
    }

    private static void Tell(int length, int size, Dictionary<string, List<Run>> results, StringBuilder text, List<string> figures, List<string> failed)
    {
        var gigabytes = length * 4.0 / 1e9;
        text.AppendLine().AppendLine(CultureInfo.InvariantCulture, $"## {length / 1_000_000} M floats, {size} ranks\n");
        text.AppendLine("| | GB/s (best) | of Gloo's | CPU-s/GB | allocated kB |\n| --- | ---: | ---: | ---: | ---: |");
        var speeds = results.ToDictionary(r => r.Key, r => gigabytes / Spread.Of(r.Value.Select(run => run.Seconds)).Median);
        foreach (var (side, runs) in results)
        {
            text.AppendLine(CultureInfo.InvariantCulture,
                $"| {side} | {speeds[side]:F2} ({gigabytes / runs.Min(r => r.Seconds):F2}) | {speeds[side] / speeds["Gloo"]:F2} | {Spread.Of(runs.Select(r => r.Cpu)).Median / gigabytes:F2} | {Spread.Of(runs.Select(r => r.Allocated)).Median / 1e3:F0} |");
        }

        foreach (var goal in Goals.Where(g => g.Length == length))
        {
            var share = speeds[goal.Side] / speeds["Gloo"];
            figures.Add(string.Create(CultureInfo.InvariantCulture, $"{goal.Side} {length / 1_000_000} M, {size} ranks {share:F2}"));
            if (!(share >= goal.Share))
            {
                failed.Add(string.Create(CultureInfo.InvariantCulture, $"{goal.Side} of {length / 1_000_000} M on {size} ranks is at {share:F2} of Gloo, not {goal.Share}"));
            }
        }
    }

    private sealed record Goal(int Length, string Side, double Share);

    private sealed record Run(double Seconds, double Cpu, double Allocated);
}
