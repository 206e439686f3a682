using System.Text.Json;

namespace LlmPipeline.Text.Sources;

/// <summary>
/// A unit of work: whole files, or a range of a big one. The units of a dataset, in order, give every document once, and the same
/// documents whatever the size of the units.
/// </summary>
/// <param name="Files">What is read, in order; a single file when <paramref name="Range"/> is set.</param>
/// <param name="Range">The part of the file that is meant; null for all of it.</param>
public sealed record SourceUnit(IReadOnlyList<SourceFile> Files, SourceRange? Range = null)
{
    private static readonly JsonSerializerOptions Json = new(JsonSerializerDefaults.Web) { DefaultIgnoreCondition = System.Text.Json.Serialization.JsonIgnoreCondition.WhenWritingDefault };

    /// <summary>Bytes on disk that the unit stands for.</summary>
    public long Bytes => Range is { } range ? Math.Min(range.End, Files[0].Length) - range.Start : Files.Sum(f => f.Length);

    /// <summary>The unit as JSON, in UTF-8: for a record that another process reads.</summary>
    public byte[] ToJson()
    {
        var folder = CommonFolder();
        return JsonSerializer.SerializeToUtf8Bytes(new UnitJson
        {
            Folder = folder,
            Files = [.. Files.Select(f => new FileJson
            {
                Name = f.Path[folder.Length..],
                Length = f.Length,
                Modified = f.Modified.Ticks,
                Format = (int)f.Format,
                Compression = (int)f.Compression,
                Identity = f.Identity,
            })],
            Start = Range?.Start,
            End = Range?.End,
        }, Json);
    }

    /// <summary>Reads what <see cref="ToJson"/> wrote.</summary>
    /// <exception cref="InvalidDataException">It is something else.</exception>
    public static SourceUnit FromJson(ReadOnlySpan<byte> json)
    {
        try
        {
            var unit = JsonSerializer.Deserialize<UnitJson>(json, Json)!;
            var files = unit.Files.ConvertAll(f => new SourceFile(
                unit.Folder + f.Name, f.Length, new DateTime(f.Modified, DateTimeKind.Utc), (SourceFormat)f.Format, (SourceCompression)f.Compression, f.Identity));
            return new SourceUnit(files, unit.Start is { } start && unit.End is { } end ? new SourceRange(start, end) : null);
        }
        catch (Exception exception) when (exception is JsonException or NullReferenceException or ArgumentOutOfRangeException)
        {
            throw new InvalidDataException($"A unit of work is not readable: {exception.Message} Create the dataset again.", exception);
        }
    }

    private string CommonFolder()
    {
        var common = Files[0].Path.AsSpan();
        foreach (var file in Files)
        {
            common = common[..common.CommonPrefixLength(file.Path)];
        }

        return common[..(common.LastIndexOfAny('/', '\\') + 1)].ToString();
    }

    private sealed record UnitJson
    {
        public required string Folder { get; init; }

        public required List<FileJson> Files { get; init; }

        public long? Start { get; init; }

        public long? End { get; init; }
    }

    private sealed record FileJson
    {
        public required string Name { get; init; }

        public long Length { get; init; }

        public long Modified { get; init; }

        public int Format { get; init; }

        public int Compression { get; init; }

        public string? Identity { get; init; }
    }
}

/// <summary>A range of bytes of a file, moved to where documents begin by the reader of the format.</summary>
/// <param name="Start">First byte.</param>
/// <param name="End">After the last byte; <see cref="long.MaxValue"/> is the end of the file.</param>
public readonly record struct SourceRange(long Start, long End)
{
    /// <summary>All of a file.</summary>
    public static SourceRange All => new(0, long.MaxValue);
}
