using System.Globalization;
using System.Text;

namespace LlmPipeline.Bench.Measuring;

/// <summary>One side of a comparison.</summary>
/// <param name="Name">For the table.</param>
/// <param name="RunAsync">Runs and measures it once.</param>
internal sealed record Side(string Name, Func<Task<Measurement>> RunAsync);

/// <summary>Runs sides in turn, so that a disturbance of the machine meets all of them.</summary>
internal static class SideBySide
{
    /// <summary>Measures each side <paramref name="rounds"/> times.</summary>
    public static async Task<IReadOnlyList<Measured>> RunAsync(int rounds, params IReadOnlyList<Side> sides)
    {
        var results = sides.Select(s => new Measured(s.Name, [])).ToList();
        for (var round = 0; round < rounds; round++)
        {
            for (var i = 0; i < sides.Count; i++)
            {
                var measurement = await sides[i].RunAsync();
                results[i].Runs.Add(measurement);
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                    $"round {round + 1}/{rounds}  {sides[i].Name}: {measurement.WallSeconds:F2} s wall, {measurement.CpuSeconds:F2} s CPU, {measurement.PeakBytes / 1e6:F0} MB"));
            }
        }

        return results;
    }

    /// <summary>A Markdown table of medians with their spread.</summary>
    public static string Table(IEnumerable<Measured> results)
    {
        var table = new StringBuilder("| | wall s, median (min-max) | CPU s, median (min-max) | peak MB, median |\n| --- | ---: | ---: | ---: |\n");
        foreach (var r in results)
        {
            table.AppendLine(CultureInfo.InvariantCulture, $"| {r.Name} | {r.Wall} | {r.Cpu} | {r.PeakBytes / 1e6:F0} |");
        }

        return table.ToString();
    }
}

/// <summary>The runs of one side.</summary>
internal sealed record Measured(string Name, List<Measurement> Runs)
{
    public Spread Wall => Spread.Of(Runs.Select(r => r.WallSeconds));

    public Spread Cpu => Spread.Of(Runs.Select(r => r.CpuSeconds));

    public double PeakBytes => Spread.Of(Runs.Select(r => (double)r.PeakBytes)).Median;
}

/// <summary>Median and range.</summary>
internal readonly record struct Spread(double Median, double Min, double Max)
{
    public static Spread Of(IEnumerable<double> values)
    {
        var sorted = values.Order().ToArray();
        var middle = sorted.Length / 2;
        return new(sorted.Length % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2, sorted[0], sorted[^1]);
    }

    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Median:F2} ({Min:F2}-{Max:F2})");
}
