using System.Globalization;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Text.Building;

/// <summary>The units of work of a job; each is a file <c>units/{unit}.json</c>.</summary>
internal sealed record UnitPlan
{
    /// <summary>What the parts of the mixture are made of, in order.</summary>
    public required IReadOnlyList<PlannedPart> Parts { get; init; }

    /// <summary>Bytes of the source files up to and with each unit.</summary>
    public required IReadOnlyList<long> EndBytes { get; init; }

    /// <summary>Bytes of source files by which the stages are weighed against each other.</summary>
    public required SourceSizes Sizes { get; init; }

    /// <summary>Source files in all.</summary>
    public required long FileCount { get; init; }

    /// <summary>The first file, for messages.</summary>
    public required string FirstFile { get; init; }

    /// <summary>Number of units.</summary>
    public int Count => EndBytes.Count;

    /// <summary>The part that a unit belongs to.</summary>
    public int PartOf(int unit)
    {
        var part = 0;
        while (unit >= Parts[part].FirstUnit + Parts[part].UnitCount)
        {
            part++;
        }

        return part;
    }

    public static string UnitFile(int unit) => string.Create(CultureInfo.InvariantCulture, $"units/{unit:D6}.json");
}

/// <summary>A part of a mixture.</summary>
/// <param name="Label">What reports call it.</param>
/// <param name="FirstUnit">Its first unit.</param>
/// <param name="UnitCount">Number of its units.</param>
/// <param name="Files">Number of its files.</param>
/// <param name="Bytes">Their bytes.</param>
internal sealed record PlannedPart(string Label, int FirstUnit, int UnitCount, long Files, long Bytes);

/// <summary>Bytes of source files, by how long they take.</summary>
internal sealed record SourceSizes(long Total, long Xml, long Compressed)
{
    public static SourceSizes Of(IEnumerable<SourceFile> files)
    {
        var sizes = new SourceSizes(0, 0, 0);
        foreach (var file in files)
        {
            sizes = new SourceSizes(
                sizes.Total + file.Length,
                sizes.Xml + (file.Format == SourceFormat.XmlDocumentation ? file.Length : 0),
                sizes.Compressed + (file.Compressed ? file.Length : 0));
        }

        return sizes;
    }

    public static SourceSizes operator +(SourceSizes left, SourceSizes right) =>
        new(left.Total + right.Total, left.Xml + right.Xml, left.Compressed + right.Compressed);
}
