using Parquet;
using Parquet.Schema;

namespace LlmPipeline.Text.Sources;

/// <summary>Reads one column of a Parquet file, a row group at a time. A nested column is named with dots.</summary>
internal static class ParquetRows
{
    private const int BatchCharacters = 4 << 20;

    /// <summary>Pieces of documents.</summary>
    /// <param name="file">What is read.</param>
    /// <param name="path">Where its content lies.</param>
    /// <param name="range">The row groups that begin in it are meant.</param>
    /// <param name="fields">The columns.</param>
    /// <param name="onInvalid">What happens to a row without text, and to a row group that cannot be read.</param>
    public static IEnumerable<SourcePiece> Read(SourceFile file, string path, SourceRange range, RecordFields fields, InvalidRecords onInvalid)
    {
        using var stream = SourceStream.Open(file, path);
        ParquetLimits.RequireFooter(file, stream);
        var reader = Try(file, "its footer", () => Wait(new ValueTask<ParquetReader>(ParquetReader.CreateAsync(stream, new ParquetOptions { TreatByteArrayAsString = true }, leaveStreamOpen: true))));
        ParquetLimits.RequireSchema(file, reader.Metadata!);
        var column = Try(file, "its schema", () => ColumnOf(file, reader, fields.Text, "text_field"));
        var labelColumn = fields.Label is null ? null : Try(file, "its schema", () => ColumnOf(file, reader, fields.Label, "label_field"));
        var groups = reader.Metadata!.RowGroups;
        for (var i = 0; i < groups.Count; i++)
        {
            var group = groups[i];
            var start = group.Columns is [{ MetaData: { } first }, ..] ? ParquetLimits.StartOf(first) : -1;
            if (start < 4 || start >= file.Length)
            {
                throw new TextSourceException(TextSourceProblem.Invalid, $"'{file.Path}' says that row group {i} begins at offset {start}, which cannot be. Copy or write it again.");
            }

            if (start < range.Start || start >= range.End)
            {
                continue;
            }

            string?[] rows = [];
            string?[]? labels = null;
            TextSourceException? broken = null;
            try
            {
                rows = ReadGroup(file, stream, reader, i, column);
                labels = labelColumn is null ? null : ReadGroup(file, stream, reader, i, labelColumn);
            }
            catch (TextSourceException exception) when (onInvalid == InvalidRecords.Skip && exception.Problem == TextSourceProblem.Invalid)
            {
                broken = exception;
            }

            if (broken is not null)
            {
                yield return SourcePiece.OfDocuments(file, [], 0) with { Skipped = SkippedRecords.None.Add(broken.Message) };
                continue;
            }

            foreach (var piece in Batches(file, i, rows, labels, fields, onInvalid, DiskBytes(group)))
            {
                yield return piece;
            }
        }
    }

    private static IEnumerable<SourcePiece> Batches(SourceFile file, int group, string?[] rows, string?[]? labels, RecordFields fields, InvalidRecords onInvalid, long diskBytes)
    {
        var documents = new List<RawDocument>();
        var skipped = SkippedRecords.None;
        long characters = 0;
        for (var row = 0; row < rows.Length; row++)
        {
            if (rows[row] is { } text && (labels is null || labels[row] is { Length: > 0 }))
            {
                LongText.AddTo(documents, text, labels?[row]);
                characters += text.Length;
                rows[row] = null;
            }
            else
            {
                var message = $"'{file.Path}' row {row + 1} of row group {group} has no {(rows[row] is null ? $"text in column '{fields.Text}'" : $"label in column '{fields.Label}'")}. Remove the row.";
                skipped = onInvalid == InvalidRecords.Skip ? skipped.Add(message) : throw new TextSourceException(TextSourceProblem.Invalid, message);
            }

            if (characters >= BatchCharacters || row == rows.Length - 1)
            {
                yield return SourcePiece.OfDocuments(file, documents, row == rows.Length - 1 ? diskBytes : 0) with { Skipped = skipped };
                documents = [];
                skipped = SkippedRecords.None;
                characters = 0;
            }
        }
    }

    private static string?[] ReadGroup(SourceFile file, SourceStream stream, ParquetReader reader, int group, DataField column) => Try(file, $"row group {group}", () =>
    {
        using var rowGroup = reader.OpenRowGroupReader(group);
        var meta = rowGroup.GetMetadata(column)?.MetaData ?? throw new InvalidDataException("the column is missing.");
        ParquetLimits.RequirePages(file, stream, group, meta, rowGroup.RowCount);
        var rows = new string?[rowGroup.RowCount];
        var reading = rowGroup.ReadAsync(column, rows.AsMemory()!);
        Wait(reading);
        return rows;
    });

    private static DataField ColumnOf(SourceFile file, ParquetReader reader, string field, string key)
    {
        var column = reader.Schema.DataFields.FirstOrDefault(f => string.Join('.', f.Path.ToList()) == field);
        if (column is { MaxRepetitionLevel: 0 } && (column.ClrType == typeof(ReadOnlyMemory<char>) || column.ClrType == typeof(string)))
        {
            return column;
        }

        throw new TextSourceException(TextSourceProblem.Invalid, column is null
            ? $"'{file.Path}' has no column '{field}' but {string.Join(", ", reader.Schema.DataFields.Take(20).Select(f => $"'{string.Join('.', f.Path.ToList())}'"))}. Name the right column in {key}."
            : $"'{file.Path}' has a column '{field}' that does not hold one text a row. Name the right column in {key}.");
    }

    private static long DiskBytes(Parquet.Meta.RowGroup group) => group.Columns.Sum(c => c.MetaData?.TotalCompressedSize ?? 0);

    // The stream answers at once, so nothing is waited for.
    private static T Wait<T>(ValueTask<T> task) => task.AsTask().GetAwaiter().GetResult();

    private static void Wait(ValueTask task) => task.AsTask().GetAwaiter().GetResult();

    // Of a damaged file the library throws whatever its code runs into.
    private static T Try<T>(SourceFile file, string what, Func<T> read)
    {
        try
        {
            return read();
        }
        catch (Exception exception) when (exception is not (TextSourceException or OperationCanceledException))
        {
            throw new TextSourceException(TextSourceProblem.Invalid, $"'{file.Path}' is not a readable Parquet file: {what}: {exception.Message} Copy or write it again.", exception);
        }
    }
}
