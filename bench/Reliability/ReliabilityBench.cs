using System.Globalization;
using System.Text;
using System.Text.Json;
using LlmPipeline.Faults;
using LlmPipeline.Faults.Scenarios;

namespace LlmPipeline.Bench.Reliability;

/// <summary>The long forms of the reliability tests: each fault at many random instants, the result compared bit for bit every time.</summary>
internal static class ReliabilityBench
{
    private static string Folder => Path.Combine(Machine.RepositoryRoot, ".llmpipeline", "reliability");

    /// <param name="arguments">Numbers of tests (all); <c>--times N</c>: instead of as often as each test names; <c>--anew</c>: forget what was measured.</param>
    public static async Task<int> RunAsync(string[] arguments)
    {
        var at = Array.IndexOf(arguments, "--times");
        var times = at >= 0 ? int.Parse(arguments[at + 1], CultureInfo.InvariantCulture) : (int?)null;
        var numbers = arguments.Where((a, i) => (at < 0 || i != at + 1) && !a.StartsWith('-')).Select(a => int.Parse(a, CultureInfo.InvariantCulture)).ToHashSet();
        if (arguments.Contains("--anew") && Directory.Exists(Folder))
        {
            Directory.Delete(Folder, recursive: true);
        }

        Directory.CreateDirectory(Folder);
        using var setup = new ReferenceSetup();
        foreach (var scenario in AllScenarios.List.Where(s => numbers.Count == 0 || numbers.Contains(s.Number)))
        {
            var kept = await ReadAsync(scenario);
            while (kept.Count < (times ?? scenario.Repetitions))
            {
                var seed = (1000 * scenario.Number) + kept.Count + 1;
                var result = await OnceAsync(setup, scenario, seed);
                kept.Add(result);
                await File.WriteAllTextAsync(PathOf(scenario), JsonSerializer.Serialize(kept));
                Console.WriteLine($"{DateTime.UtcNow:HH:mm:ss} {scenario.Id}, seed {seed}: {result.Problem ?? string.Join("; ", result.Figures.Select(f => string.Create(CultureInfo.InvariantCulture, $"{f.What} {f.Value:0.###}")))}");
            }
        }

        return await PublishAsync(arguments);
    }

    private static async Task<Once> OnceAsync(ReferenceSetup setup, Scenario scenario, int seed)
    {
        try
        {
            return new Once { Figures = [.. await scenario.RunAsync(new ScenarioContext(setup, new Random(seed), IsLong: true))] };
        }
        catch (ScenarioSkippedException skipped)
        {
            return new Once { Figures = [], Problem = skipped.Message };
        }
        catch (Exception exception) when (exception is InvalidOperationException or TimeoutException or IOException or Grpc.Core.RpcException)
        {
            setup.Discard();
            var log = Path.Combine(Folder, $"{scenario.Id}-{seed}.log");
            await File.WriteAllTextAsync(log, exception.ToString());
            return new Once { Figures = [], Problem = $"{exception.Message.Split('\n')[0]} (all of it in {log})" };
        }
    }

    private static async Task<int> PublishAsync(string[] arguments)
    {
        var text = new StringBuilder($"""
            # Reliability tests at many random instants

            {await Machine.DescribeAsync($"dotnet run -c Release --project bench -- reliability {string.Join(' ', arguments)}".TrimEnd())}
            - Measured in several calls, whose results are kept (`--anew` forgets them): date, commit and load are those of the last one.
            - A million parameters, 3 workers and a coordinator as processes, 300 steps, a checkpoint every 50. Load average at the end: {Machine.LoadAverage()} on {Environment.ProcessorCount} cores; goals are for a quiet machine.

            "Exact": every loss and the hash of weights and optimizer state are those of an undisturbed run on one worker, compared with `==`.

            | Test | What happens | Exact | Figure | Median | Worst | Goal | Met |
            | ---: | --- | ---: | --- | ---: | ---: | ---: | --- |

            """);
        var (met, exact, all) = (0, 0, 0);
        var problems = new StringBuilder();
        var figures = 0;
        foreach (var scenario in AllScenarios.List)
        {
            var kept = await ReadAsync(scenario);
            if (kept.Count == 0)
            {
                continue;
            }

            var good = kept.Count(k => k.Problem is null);
            (exact, all) = (exact + good, all + kept.Count);
            var heading = string.Create(CultureInfo.InvariantCulture, $"| {scenario.Id} | {scenario.Title} | {good}/{kept.Count} |");
            foreach (var figure in kept.SelectMany(k => k.Figures).GroupBy(f => f.What))
            {
                var values = figure.Select(f => f.Value).Order().ToList();
                var (first, worst) = (figure.First(), figure.First().AtLeast ? values[0] : values[^1]);
                var ok = figure.All(f => f.Meets(1));
                (met, figures) = (met + (ok ? 1 : 0), figures + 1);
                text.AppendLine(CultureInfo.InvariantCulture, $"{heading} {figure.Key} | {values[values.Count / 2]:0.##} | {worst:0.##} | {(first.AtLeast ? "≥" : "≤")} {first.Goal:0.##} | {(ok ? "yes" : "no")} |");
                heading = "| | | |";
            }

            if (kept.All(k => k.Figures.Count == 0))
            {
                text.AppendLine(CultureInfo.InvariantCulture, $"{heading} none | | | | no |");
            }

            foreach (var (index, once) in kept.Index().Where(k => k.Item.Problem is not null))
            {
                problems.AppendLine(CultureInfo.InvariantCulture, $"- Test {scenario.Id}, seed {(1000 * scenario.Number) + index + 1}: {once.Problem}");
            }
        }

        if (problems.Length > 0)
        {
            text.Append("\nWhat did not hold:\n\n").Append(problems);
        }

        text.Append(CultureInfo.InvariantCulture, $"\n`reliability: {exact} of {all} exact, {met} of {figures} figures met (goal all)`");
        await Machine.PublishAsync("reliability", text.ToString());
        return exact == all && met == figures && all > 0 ? 0 : 1;
    }

    private static async Task<List<Once>> ReadAsync(Scenario scenario) =>
        File.Exists(PathOf(scenario)) ? JsonSerializer.Deserialize<List<Once>>(await File.ReadAllTextAsync(PathOf(scenario)))! : [];

    private static string PathOf(Scenario scenario) => Path.Combine(Folder, $"{scenario.Id}.json");

    private sealed record Once
    {
        public required List<Figure> Figures { get; init; }

        public string? Problem { get; init; }
    }
}
