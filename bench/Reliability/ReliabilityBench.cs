using System.Globalization;
using System.Text;
using System.Text.Json;
using LlmPipeline.Faults;
using LlmPipeline.Faults.Scenarios;

namespace LlmPipeline.Bench.Reliability;

/// <summary>The long forms of the reliability tests: each fault at many random instants, the result compared bit for bit every time.</summary>
internal static class ReliabilityBench
{
    private const string Name = "reliability";
    private const string Result = "| Test | What happens | Measured | Exact | Figure | Median | Worst | Goal | Met |\n| ---: | --- | --- | ---: | --- | ---: | ---: | ---: | --- |";

    private static string Folder => Path.Combine(Machine.RepositoryRoot, ".llmpipeline", Name);

    /// <param name="arguments">Numbers of tests (all); <c>--times N</c>: instead of as often as each test names; <c>--anew</c>: forget what was measured. Lines of tests that were not measured here stay as they are in the file of results.</param>
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
        var measured = $"{DateTime.UtcNow:yyyy-MM-dd}, {await Machine.CommitAsync()}, {Machine.Processor}";
        foreach (var scenario in AllScenarios.List.Where(s => numbers.Count == 0 || numbers.Contains(s.Number)))
        {
            var kept = await ReadAsync(scenario);
            while (kept.Count < (times ?? scenario.Repetitions))
            {
                var seed = SeedOf(scenario, kept.Count);
                var result = await OnceAsync(setup, scenario, seed) with { Measured = measured };
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
        var known = await KnownAsync();
        var (lines, problems) = (new List<string[]>(), new List<string>());
        foreach (var scenario in AllScenarios.List)
        {
            var kept = await ReadAsync(scenario);
            lines.AddRange(kept.Count > 0 ? LinesOf(scenario, kept) : known.Lines.GetValueOrDefault(scenario.Id, []));
            var prefix = $"- Test {scenario.Id}, seed ";
            problems.AddRange(kept.Count > 0
                ? kept.Index().Where(k => k.Item.Problem is not null).Select(k => $"{prefix}{SeedOf(scenario, k.Index)}: {k.Item.Problem}")
                : known.Problems.Where(p => p.StartsWith(prefix, StringComparison.Ordinal)));
        }

        var text = new StringBuilder($"""
            # Reliability tests at many random instants

            {await Machine.DescribeAsync($"dotnet run -c Release --project bench -- {Name} {string.Join(' ', arguments)}".TrimEnd())}
            - Measured in several calls, of which these are the last one's command, date, commit, machine and load; each test has its own in the column "Measured".
            - A million parameters, 3 workers and a coordinator as processes, 300 steps, a checkpoint every 50. Load average at the end: {Machine.LoadAverage()} on {Environment.ProcessorCount} cores; goals are for a quiet machine.

            "Exact": every loss and the hash of weights and optimizer state are those of an undisturbed run on one worker, compared with `==`.

            {Result}

            """);
        foreach (var line in lines)
        {
            text.Append("| ").AppendJoin(" | ", line).AppendLine(" |");
        }

        if (problems.Count > 0)
        {
            text.Append("\nWhat did not hold:\n\n").AppendJoin('\n', problems).AppendLine();
        }

        var counts = lines.Where(l => l[3].Length > 0).Select(l => l[3].Split('/').Select(n => int.Parse(n, CultureInfo.InvariantCulture)).ToArray()).ToList();
        var (exact, all, met) = (counts.Sum(c => c[0]), counts.Sum(c => c[1]), lines.Count(l => l[^1] == "yes"));
        text.Append(CultureInfo.InvariantCulture, $"\n`{Name}: {exact} of {all} exact, {met} of {lines.Count} figures met (goal all)`");
        await Machine.PublishAsync(Name, text.ToString());
        return exact == all && met == lines.Count && all > 0 ? 0 : 1;
    }

    // The cells of a test's lines: the first has the test, each a figure.
    private static IEnumerable<string[]> LinesOf(Scenario scenario, List<Once> kept)
    {
        string[] heading =
            [scenario.Id, scenario.Title, string.Join("; ", kept.Select(k => k.Measured).Distinct()), $"{kept.Count(k => k.Problem is null)}/{kept.Count}"];
        foreach (var figure in kept.SelectMany(k => k.Figures).GroupBy(f => f.What))
        {
            var values = figure.Select(f => f.Value).Order().ToList();
            var (first, worst) = (figure.First(), figure.First().AtLeast ? values[0] : values[^1]);
            string[] cells = [figure.Key, Text(values[values.Count / 2]), Text(worst), $"{(first.AtLeast ? "≥" : "≤")} {Text(first.Goal)}", figure.All(f => f.Meets(1)) ? "yes" : "no"];
            yield return [.. heading, .. cells];
            heading = ["", "", "", ""];
        }

        if (heading[0].Length > 0)
        {
            yield return [.. heading, "none", "", "", "", "no"];
        }

        static string Text(double number) => number.ToString("0.##", CultureInfo.InvariantCulture);
    }

    // What the file of results has of each test.
    private static async Task<(Dictionary<string, List<string[]>> Lines, List<string> Problems)> KnownAsync()
    {
        var file = Machine.ResultPath(Name);
        var text = File.Exists(file) ? (await File.ReadAllTextAsync(file)).Split('\n') : [];
        var (lines, id) = (new Dictionary<string, List<string[]>>(), "");
        foreach (var cells in text.SkipWhile(l => l != Result.Split('\n')[^1]).Skip(1).TakeWhile(l => l.StartsWith('|')).Select(l => l.Split('|')[1..^1].Select(c => c.Trim()).ToArray()))
        {
            id = cells[0].Length > 0 ? cells[0] : id;
            (lines.TryGetValue(id, out var known) ? known : lines[id] = []).Add(cells);
        }

        return (lines, [.. text.Where(l => l.StartsWith("- Test ", StringComparison.Ordinal))]);
    }

    private static int SeedOf(Scenario scenario, int index) => (1000 * scenario.Number) + index + 1;

    private static async Task<List<Once>> ReadAsync(Scenario scenario) =>
        File.Exists(PathOf(scenario)) ? JsonSerializer.Deserialize<List<Once>>(await File.ReadAllTextAsync(PathOf(scenario)))! : [];

    private static string PathOf(Scenario scenario) => Path.Combine(Folder, $"{scenario.Id}.json");

    private sealed record Once
    {
        public required List<Figure> Figures { get; init; }

        public string? Problem { get; init; }

        /// <summary>Date, commit and processor.</summary>
        public string Measured { get; init; } = "";
    }
}
