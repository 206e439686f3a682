namespace LlmPipeline.Text.Sources;

/// <summary>Divides files into units of work.</summary>
public static class SourceUnits
{
    /// <summary>What opening a file costs, as bytes of reading: many tiny files are not one unit.</summary>
    private const long FileCost = 4096;

    /// <summary>
    /// The units, in the order in which their documents follow each other. Files keep their order, but XML documentation is one unit
    /// at the place of its first file: a member that was seen before is dropped. Big files of plain text, JSON lines and Parquet are
    /// divided, compressed ones and CSV are not.
    /// </summary>
    /// <param name="files">What <see cref="SourceFiles.FindAsync"/> found.</param>
    /// <param name="unitBytes">Size of a unit, above 0: bytes on disk.</param>
    public static IEnumerable<SourceUnit> Plan(IReadOnlyList<SourceFile> files, long unitBytes)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(unitBytes);
        var group = new List<SourceFile>();
        long cost = 0;
        var sawXml = false;
        foreach (var file in files)
        {
            if (file.Format == SourceFormat.XmlDocumentation)
            {
                if (!sawXml)
                {
                    if (group.Count > 0)
                    {
                        yield return Take(group, ref cost);
                    }

                    yield return new SourceUnit([.. files.Where(f => f.Format == SourceFormat.XmlDocumentation)]);
                    sawXml = true;
                }

                continue;
            }

            var fileCost = Math.Max(file.Length, FileCost);
            if (group.Count > 0 && cost + fileCost > unitBytes)
            {
                yield return Take(group, ref cost);
            }

            if (fileCost > unitBytes && StepOf(file, unitBytes) is { } step)
            {
                foreach (var unit in Divide(file, step))
                {
                    yield return unit;
                }

                continue;
            }

            group.Add(file);
            cost += fileCost;
        }

        if (group.Count > 0)
        {
            yield return Take(group, ref cost);
        }
    }

    private static SourceUnit Take(List<SourceFile> group, ref long cost)
    {
        var unit = new SourceUnit([.. group]);
        group.Clear();
        cost = 0;
        return unit;
    }

    // Plain text is cut into documents at fixed places, and units end at some of them.
    private static long? StepOf(SourceFile file, long unitBytes) => (file.Format, file.Compression) switch
    {
        (SourceFormat.PlainText, SourceCompression.None) when file.Length > TextCut.MaxBytes => Math.Max(1, unitBytes / TextCut.StepBytes) * TextCut.StepBytes,
        (SourceFormat.JsonLines or SourceFormat.Parquet, SourceCompression.None) => unitBytes,
        _ => null,
    };

    private static IEnumerable<SourceUnit> Divide(SourceFile file, long step)
    {
        for (long start = 0; start < file.Length; start += step)
        {
            yield return new SourceUnit([file], new SourceRange(start, start + step >= file.Length ? long.MaxValue : start + step));
        }
    }
}
