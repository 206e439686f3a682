using System.Globalization;
using System.Text;
using LlmPipeline.Bench.Measuring;
using LlmPipeline.Fakes;

namespace LlmPipeline.Bench.Exchange;

/// <summary>
/// Two workers of one thread on a core each, beside one worker on half the batch: what of a worker's CPU time is left for its own
/// share when gradients have to be exchanged. nanoGPT's "baby" set-up, 8 sequences a worker.
/// </summary>
internal static class EfficiencyBench
{
    private const int Steps = 1;

    // In which .NET still compiles its busiest methods anew; training takes thousands of steps.
    private const int WarmUpRounds = 2;

    private static readonly Kind[] Kinds =
    [
        new("fp32, exact", "fp32", "exact", "fp32", 0.92),
        new("fp32, plain", "fp32", "plain", "fp32", null),
        new("fp32, plain, 16-bit wire", "fp32", "plain", "bf16", 0.95),
        new("bf16 compute, exact", "bf16", "exact", "fp32", 0.89),
    ];

    public static async Task<int> RunAsync(string[] arguments)
    {
        var rounds = arguments.Length > 0 ? int.Parse(arguments[0], CultureInfo.InvariantCulture) : 12;
        int[] microBatches = arguments.Length > 1 ? [int.Parse(arguments[1], CultureInfo.InvariantCulture)] : [1, 2, 4];
        var ports = FreePort.Several(4);
        var last = Environment.ProcessorCount - 1;
        using var lone = RankProcess.OfSelf([EfficiencyWorker.Command, "0", $"{ports[2]}"], last);
        using var neighbour = RankProcess.OfSelf([EfficiencyWorker.Command, "0", $"{ports[3]}"], last - 1);
        using var first = RankProcess.OfSelf([EfficiencyWorker.Command, "0", $"{ports[0]}", $"{ports[1]}"], last - 1);
        using var second = RankProcess.OfSelf([EfficiencyWorker.Command, "1", $"{ports[0]}", $"{ports[1]}"], last);
        await Task.WhenAll(lone.ReadyAsync(), neighbour.ReadyAsync(), first.ReadyAsync(), second.ReadyAsync());
        var results = new Dictionary<(Kind Kind, int MicroBatches), List<Pair>>();
        foreach (var count in microBatches)
        {
            foreach (var kind in Kinds)
            {
                string Training(int roundsOfAll) => $"{kind.Precision} {kind.Mode} {kind.Wire} {count} {roundsOfAll * (WarmUpRounds + rounds)} {Steps}";
                await Task.WhenAll(lone.AskAsync(Training(2)), neighbour.AskAsync(Training(1)));
                await Task.WhenAll(first.AskAsync(Training(1)), second.AskAsync(Training(1)));
                var pairs = results[(kind, count)] = [];
                for (var round = -WarmUpRounds; round < rounds; round++)
                {
                    var pair = await RoundAsync([lone], [lone, neighbour], [first, second], round);
                    if (round >= 0)
                    {
                        pairs.Add(pair);
                    }
                }

                Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                    $"{DateTime.UtcNow:HH:mm:ss} {kind.Name}, {count} micro-batches: CPU ms alone {Of(p => p.LoneCpu * 1e3):F0}, beside another {Of(p => p.ApartCpu * 1e3):F0}, of two {Of(p => p.Cpu * 1e3):F0}"));

                Spread Of(Func<Pair, double> number) => Spread.Of(pairs.Select(number));
            }
        }

        await TellAsync(results, rounds, microBatches);
        return results.Any(r => r.Key.Kind.Goal > Efficiency(r.Value)) ? 1 : 0;
    }

    // One round of each side, in another order each time.
    private static async Task<Pair> RoundAsync(RankProcess[] alone, RankProcess[] apart, RankProcess[] both, int round)
    {
        RankProcess[][] sides = [alone, apart, both];
        var steps = new IReadOnlyList<double[]>[3][];
        for (var i = 0; i < sides.Length; i++)
        {
            var side = (i + round + WarmUpRounds) % sides.Length;
            steps[side] = await Task.WhenAll(sides[side].Select(process => process.AskAsync("go")));
        }

        return new Pair(Mean(0, 0), Mean(1, 0), Mean(2, 0), Mean(0, 1), Mean(2, 1), steps[2][0].Average(s => s[2]), steps[2][0].Average(s => s[3]));

        double Mean(int side, int column) => steps[side].Average(worker => worker.Average(step => step[column]));
    }

    private static async Task TellAsync(Dictionary<(Kind Kind, int MicroBatches), List<Pair>> results, int rounds, int[] microBatches)
    {
        var text = new StringBuilder($"# efficiency: two workers of one thread beside one on half the batch\n\n{await Machine.DescribeAsync($"dotnet run -c Release --project bench -- efficiency {rounds}")}\n");
        text.AppendLine("- 6 layers, 6 heads, 384 wide, context 256 (10.7 million parameters), 8 sequences a worker and step; each worker is a process on one core");
        text.AppendLine(CultureInfo.InvariantCulture, $"- {rounds} rounds of a step, all sides in turn, after {WarmUpRounds} that are not counted, in which .NET still compiles; medians. Efficiency: CPU time of a step alone over that of a worker of two, exchange included; behind it the middle half of the rounds");
        text.AppendLine("- Quiet: the same of each side's fastest quarter of the rounds, when nobody else is at the machine's memory");
        text.AppendLine("- Beside another: two lone workers at the same time, which share the machine's memory and exchange nothing; what two workers need above that is the exchange");
        text.AppendLine("- Hidden: the share of the exchange's time that passed while the worker was still computing gradients");
        text.AppendLine().AppendLine("| | micro-batches a worker | CPU ms alone | beside another | of two | efficiency | goal | quiet | wall ms alone | of two | exchange hidden |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
        var (figures, missed) = (new List<string>(), new List<string>());
        foreach (var ((kind, count), pairs) in results.OrderBy(r => Array.IndexOf(Kinds, r.Key.Kind)).ThenBy(r => r.Key.MicroBatches))
        {
            double Of(Func<Pair, double> number) => Spread.Of(pairs.Select(number)).Median;
            var efficiency = Efficiency(pairs);
            var quotients = pairs.Select(p => p.LoneCpu / p.Cpu).Order().ToList();
            var (low, high) = (quotients[quotients.Count / 4], quotients[(quotients.Count - 1) * 3 / 4]);
            double Quiet(Func<Pair, double> number) => pairs.Select(number).Order().Take(Math.Max(1, pairs.Count / 4)).Average();
            text.AppendLine(CultureInfo.InvariantCulture,
                $"| {kind.Name} | {count} | {Of(p => p.LoneCpu) * 1e3:F0} | {Of(p => p.ApartCpu) * 1e3:F0} | {Of(p => p.Cpu) * 1e3:F0} | {efficiency:P1} ({low * 100:F0} to {high:P0}) | {kind.Goal:P0} | {Quiet(p => p.LoneCpu) / Quiet(p => p.Cpu):P1} | {Of(p => p.LoneWall) * 1e3:F0} | {Of(p => p.Wall) * 1e3:F0} | {Of(p => p.Hidden / Math.Max(1e-9, p.Hidden + p.Exposed)):P0} |");
            figures.Add(string.Create(CultureInfo.InvariantCulture, $"{kind.Name}, {count} micro-batches {efficiency:P1}"));
            if (kind.Goal > efficiency)
            {
                missed.Add(figures[^1]);
            }
        }

        text.AppendLine().AppendLine(missed.Count == 0 ? "All goals are met." : $"Missed: {string.Join("; ", missed)}.");
        text.AppendLine().Append(CultureInfo.InvariantCulture,
            $"efficiency: {string.Join("; ", figures)} (goal {string.Join(", ", Kinds.Where(k => k.Goal is not null).Select(k => string.Create(CultureInfo.InvariantCulture, $"{k.Name} {k.Goal:P0}")))} at {string.Join(", ", microBatches)} micro-batches)");
        await Machine.PublishAsync("efficiency", text.ToString());
    }

    // Of the rounds, so that a slow minute meets both sides of a quotient.
    private static double Efficiency(List<Pair> pairs) => Spread.Of(pairs.Select(p => p.LoneCpu / p.Cpu)).Median;

    private sealed record Kind(string Name, string Precision, string Mode, string Wire, double? Goal);

    private sealed record Pair(double LoneCpu, double ApartCpu, double Cpu, double LoneWall, double Wall, double Hidden, double Exposed);
}
