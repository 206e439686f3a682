using System.Buffers.Binary;
using Parquet.Meta;

namespace LlmPipeline.Text.Sources;

/// <summary>
/// Checks what a Parquet file declares against the file and against what is read at once, before it is believed: a library would
/// allocate it.
/// </summary>
internal static class ParquetLimits
{
    /// <summary>Most bytes of the text column in a row group, uncompressed: they are in memory at once.</summary>
    public const long MaxColumnBytes = 96L << 20;

    /// <summary>Most rows of a row group.</summary>
    public const long MaxRows = 4L << 20;

    private const int MaxFooterBytes = 32 << 20;
    private const int MaxPageHeaderBytes = 1 << 20;
    private const int MaxSchemaDepth = 64;

    /// <summary>Checks the footer; leaves the stream at its begin.</summary>
    public static void RequireFooter(SourceFile file, SourceStream stream)
    {
        Span<byte> ends = stackalloc byte[12];
        stream.Position = 0;
        var whole = stream.Length >= 16 && stream.Fill(ends[..4]) == 4;
        stream.Position = Math.Max(0, stream.Length - 8);
        whole = whole && stream.Fill(ends[4..]) == 8;
        if (!whole || !ends[..4].SequenceEqual("PAR1"u8) || !ends[8..].SequenceEqual("PAR1"u8))
        {
            throw Invalid(file, whole && ends[8..].SequenceEqual("PARE"u8) ? "is encrypted; decrypt it first." : "is not a whole Parquet file: it has to begin and end with PAR1. Copy or write it again.");
        }

        var length = BinaryPrimitives.ReadUInt32LittleEndian(ends[4..]);
        var offset = stream.Length - 8 - length;
        if (offset < 4 || length > MaxFooterBytes)
        {
            throw Invalid(file, $"has a footer of {length} bytes according to offset {stream.Length - 8}, which cannot be. Copy or write it again.");
        }

        var footer = new byte[length];
        stream.Position = offset;
        stream.Fill(footer);
        if (!new ThriftCompact(footer).TryReadStruct([]))
        {
            throw Invalid(file, $"has a broken footer at offset {offset}. Copy or write it again.");
        }

        stream.Position = 0;
    }

    /// <summary>Checks how deep columns are nested: the library makes its schema by recursion.</summary>
    public static void RequireSchema(SourceFile file, FileMetaData metadata)
    {
        var open = new Stack<int>();
        foreach (var element in metadata.Schema)
        {
            while (open.TryPeek(out var left) && left == 0)
            {
                open.Pop();
            }

            if (open.Count > 0)
            {
                open.Push(open.Pop() - 1);
            }

            open.Push(Math.Max(0, element.NumChildren ?? 0));
            if (open.Count > MaxSchemaDepth)
            {
                throw Invalid(file, $"nests columns more than {MaxSchemaDepth} deep. Write it with fewer levels.");
            }
        }

        if (metadata.RowGroups is null)
        {
            throw Invalid(file, "has a footer without row groups. Copy or write it again.");
        }
    }

    /// <summary>Checks the pages of a column in a row group.</summary>
    public static void RequirePages(SourceFile file, SourceStream stream, int group, ColumnMetaData column, long rows)
    {
        if (column.TotalUncompressedSize > MaxColumnBytes || rows > MaxRows)
        {
            throw Invalid(file, $"has {rows} rows and {column.TotalUncompressedSize >> 20} MiB of text in row group {group}; at most {MaxRows} and {MaxColumnBytes >> 20} MiB are read at once. "
                + "Write it with smaller row groups, for example of 10,000 rows.");
        }

        var start = StartOf(column);
        var end = start + column.TotalCompressedSize;
        if (start < 4 || column.TotalCompressedSize < 0 || end > stream.Length || rows < 0 || column.NumValues != rows)
        {
            throw Invalid(file, $"says that row group {group} has {column.NumValues} values of {rows} rows at offset {start} to {end}, which cannot be. Copy or write it again.");
        }

        var header = new byte[256];
        Span<long> sizes = stackalloc long[4];
        long uncompressed = 0;
        for (var at = start; at < end;)
        {
            stream.Position = at;
            var count = stream.Fill(header.AsSpan(0, (int)Math.Min(header.Length, end - at)));
            sizes.Clear();
            var thrift = new ThriftCompact(header.AsSpan(0, count));
            if (!thrift.TryReadStruct(sizes))
            {
                if (count < header.Length || header.Length >= MaxPageHeaderBytes)
                {
                    throw Invalid(file, $"has a broken page at offset {at}. Copy or write it again.");
                }

                // Statistics may make it long.
                header = new byte[header.Length * 4];
                continue;
            }

            uncompressed += sizes[2];
            at += thrift.Position + sizes[3];
            if (sizes[2] < 0 || sizes[3] < 0 || at > end || uncompressed > MaxColumnBytes)
            {
                throw Invalid(file, $"has a page before offset {at} with lengths that cannot be. Copy or write it again.");
            }
        }
    }

    /// <summary>Where a column of a row group begins.</summary>
    public static long StartOf(ColumnMetaData column) => column.DictionaryPageOffset is { } dictionary and > 0 ? Math.Min(dictionary, column.DataPageOffset) : column.DataPageOffset;

    private static TextSourceException Invalid(SourceFile file, string what) => new(TextSourceProblem.Invalid, $"'{file.Path}' {what}");
}
