using LlmPipeline.Text.Sources;

namespace LlmPipeline.Text.Building;

/// <summary>Divides the sources of a job into units.</summary>
internal static class UnitPlanning
{
    private const string PlanFile = "plan.json";

    // Many units cost more to keep than large ones to do again.
    private const int FewUnits = 4096;

    /// <summary>The plan of a job, made where there is none yet.</summary>
    /// <exception cref="TextSourceException">The sources cannot be used.</exception>
    public static async Task<UnitPlan> PlanAsync(JobFolder folder, SourceOptions sources, long unitBytes, CancellationToken cancellationToken)
    {
        if (await folder.TryReadAsync(PlanFile, BuildJson.Default.UnitPlan, cancellationToken) is { } present)
        {
            return present;
        }

        var parts = new List<PlannedPart>();
        var ends = new List<long>();
        var sizes = new SourceSizes(0, 0, 0);
        long files = 0;
        string? first = null;
        foreach (var part in folder.Job.Recipe.Parts)
        {
            var found = await SourceFiles.FindAsync(part.Sources, sources, cancellationToken);
            var partSizes = SourceSizes.Of(found);
            var firstUnit = ends.Count;
            foreach (var unit in SourceUnits.Plan(found, Math.Max(unitBytes, partSizes.Total / FewUnits)))
            {
                await WriteUnitAsync(folder, ends.Count, unit, cancellationToken);
                ends.Add((ends.Count == 0 ? 0 : ends[^1]) + unit.Bytes);
            }

            parts.Add(new PlannedPart(part.Label, firstUnit, ends.Count - firstUnit, found.Count, partSizes.Total));
            sizes += partSizes;
            files += found.Count;
            first ??= found[0].Path;
        }

        var plan = new UnitPlan { Parts = parts, EndBytes = ends, Sizes = sizes, FileCount = files, FirstFile = first! };
        await folder.WriteAsync(PlanFile, plan, BuildJson.Default.UnitPlan, cancellationToken);
        return plan;
    }

    /// <summary>One unit of a plan.</summary>
    public static async Task<SourceUnit> ReadUnitAsync(JobFolder folder, int unit, CancellationToken cancellationToken)
    {
        await using var stream = await folder.OpenReadAsync(UnitPlan.UnitFile(unit), cancellationToken);
        var json = new byte[stream.Length];
        await stream.ReadExactlyAsync(json, cancellationToken);
        return SourceUnit.FromJson(json);
    }

    private static async Task WriteUnitAsync(JobFolder folder, int index, SourceUnit unit, CancellationToken cancellationToken)
    {
        await using var writer = await folder.CreateAsync(UnitPlan.UnitFile(index), cancellationToken);
        await writer.Stream.WriteAsync(unit.ToJson(), cancellationToken);
        await writer.CommitAsync(cancellationToken);
    }
}
