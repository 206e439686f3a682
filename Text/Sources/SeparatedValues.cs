using System.Text;
using nietras.SeparatedValues;

namespace LlmPipeline.Text.Sources;

/// <summary>What the header of a .csv or .tsv file says.</summary>
/// <param name="Separator">Between columns.</param>
/// <param name="Columns">How many there are.</param>
/// <param name="TextColumn">Which one holds the text.</param>
/// <param name="LabelColumn">Which one holds the class; -1 for none.</param>
internal sealed record CsvHeader(char Separator, int Columns, int TextColumn, int LabelColumn = -1);

/// <summary>Reads one column of a .csv or .tsv file (RFC 4180) with a header: quoted values may hold separators and line ends.</summary>
internal static class SeparatedValues
{
    /// <summary>Longest record, in bytes.</summary>
    public const int MaxRecordBytes = 15 << 20;

    private const int PieceBytes = 1 << 20;

    /// <summary>Pieces of whole records, without the header.</summary>
    public static IEnumerable<SourcePiece> Read(SourceFile file, string path, RecordFields fields)
    {
        using var stream = SourceStream.Open(file, path);
        CsvHeader? header = null;
        byte[] carry = [];
        var (offset, line, diskRead) = (0L, 1L, 0L);
        var target = PieceBytes;
        while (true)
        {
            var bytes = GC.AllocateUninitializedArray<byte>((int)Math.Min(target, file.Compressed ? target : Math.Max(carry.Length + 1, file.Length - offset + 1)));
            carry.CopyTo(bytes, 0);
            var count = carry.Length + stream.Fill(bytes.AsSpan(carry.Length));
            var atEnd = count < bytes.Length;
            var length = atEnd ? count : RecordsLength(bytes.AsSpan(0, count));
            if (length == 0 && !atEnd)
            {
                carry = bytes[..count];
                target = target >= MaxRecordBytes
                    ? throw new RecordPlace(file, line, offset).Error($"begins a record of more than {MaxRecordBytes >> 20} MiB. Is a quote not closed?")
                    : Math.Min(target * 2, MaxRecordBytes);
                continue;
            }

            var begin = 0;
            if (header is null && length > 0)
            {
                begin = HeaderLength(bytes.AsSpan(0, length));
                header = ReadHeader(file, bytes.AsSpan(0, begin), fields);
                line += bytes.AsSpan(0, begin).Count((byte)'\n');
            }

            if (length > begin)
            {
                var diskBytes = file.Compressed ? stream.DiskPosition - diskRead : offset + length - diskRead;
                diskRead += diskBytes;
                var piece = bytes.AsMemory(begin, length - begin);
                yield return new SourcePiece(file, piece, offset + begin, line, diskBytes) { Csv = header };
                line += piece.Span.Count((byte)'\n');
            }

            offset += length;
            carry = bytes[length..count];
            target = Math.Max(PieceBytes, carry.Length + 1);
            if (atEnd)
            {
                yield break;
            }
        }
    }

    /// <summary>The documents of a piece.</summary>
    public static ParsedPiece Parse(SourcePiece piece, InvalidRecords onInvalid)
    {
        var header = piece.Csv!;
        var documents = new List<RawDocument>();
        var skipped = SkippedRecords.None;
        var bytes = WithoutInvalidUtf8(piece, onInvalid, ref skipped);
        using var reader = Open(header.Separator, Encoding.UTF8.GetString(bytes));
        try
        {
            foreach (var row in reader)
            {
                if (row.Span.IsWhiteSpace())
                {
                    continue;
                }

                if (row.ColCount == header.Columns)
                {
                    var label = header.LabelColumn < 0 ? null : row[header.LabelColumn].ToString().Trim();
                    if (label is not "")
                    {
                        LongText.AddTo(documents, row[header.TextColumn].ToString(), label);
                        continue;
                    }
                }

                var error = PlaceOf(piece, row.LineNumberFrom).Error(row.ColCount == header.Columns ? "has no label. Mend or remove the line."
                    : $"has {row.ColCount} columns where the header has {header.Columns}. Mend or remove the line; values with separators, quotes or line ends belong in quotes.");
                skipped = onInvalid == InvalidRecords.Skip ? skipped.Add(error.Message) : throw error;
            }
        }
        catch (Exception exception) when (exception is NotSupportedException or InvalidOperationException or ArgumentException)
        {
            // What the reader of records refuses, for example more columns than it can count.
            throw PlaceOf(piece, 1).Error($"begins a part that is not readable: {exception.Message} Mend or remove it.", exception);
        }

        return new ParsedPiece(documents, skipped);
    }

    private static SepReader Open(char separator, string text) => Sep.New(separator).Reader(o => o with
    {
        HasHeader = false,
        DisableColCountCheck = true,
        Unescape = true,
        CultureInfo = System.Globalization.CultureInfo.InvariantCulture,
    }).FromText(text);

    // Lines of the piece are counted from 1.
    private static RecordPlace PlaceOf(SourcePiece piece, int line)
    {
        var at = 0;
        for (var i = 1; i < line; i++)
        {
            at += piece.Bytes.Span[at..].IndexOf((byte)'\n') + 1;
        }

        return new RecordPlace(piece.File, piece.FirstLine + line - 1, piece.Offset + at);
    }

    // Records that are not UTF-8 become blank lines, so that the others keep their numbers.
    private static ReadOnlySpan<byte> WithoutInvalidUtf8(SourcePiece piece, InvalidRecords onInvalid, ref SkippedRecords skipped)
    {
        if (onInvalid == InvalidRecords.Fail || System.Text.Unicode.Utf8.IsValid(piece.Bytes.Span))
        {
            Utf8Text.RequireValid(piece.File, piece.Bytes.Span, piece.Offset);
            return piece.Bytes.Span;
        }

        var bytes = piece.Bytes.ToArray();
        for (var at = 0; at < bytes.Length;)
        {
            var record = bytes.AsSpan(at, HeaderLength(bytes.AsSpan(at)));
            if (!System.Text.Unicode.Utf8.IsValid(record))
            {
                try
                {
                    Utf8Text.RequireValid(piece.File, record, piece.Offset + at);
                }
                catch (TextSourceException exception)
                {
                    skipped = skipped.Add(exception.Message);
                }

                foreach (ref var value in record)
                {
                    value = value == (byte)'\n' ? value : (byte)' ';
                }
            }

            at += record.Length;
        }

        return bytes;
    }

    // Up to the last line end outside of quotes. A file may have carriage returns alone.
    private static int RecordsLength(ReadOnlySpan<byte> bytes)
    {
        var length = RecordsLength(bytes, (byte)'\n');
        return length == 0 && !bytes.Contains((byte)'\n') ? RecordsLength(bytes[..^1], (byte)'\r') : length;
    }

    private static int RecordsLength(ReadOnlySpan<byte> bytes, byte lineEnd)
    {
        var quotes = bytes.Count((byte)'"');
        while (bytes.LastIndexOf(lineEnd) is var at and >= 0)
        {
            quotes -= bytes[at..].Count((byte)'"');
            if (quotes % 2 == 0)
            {
                return at + 1;
            }

            bytes = bytes[..at];
        }

        return 0;
    }

    // Length of the first record, with its line end.
    private static int HeaderLength(ReadOnlySpan<byte> bytes)
    {
        var quoted = false;
        for (var i = 0; i < bytes.Length; i++)
        {
            quoted ^= bytes[i] == (byte)'"';
            if (!quoted && (bytes[i] == (byte)'\n' || (bytes[i] == (byte)'\r' && (i + 1 == bytes.Length || bytes[i + 1] != (byte)'\n'))))
            {
                return i + 1;
            }
        }

        return bytes.Length;
    }

    private static CsvHeader ReadHeader(SourceFile file, ReadOnlySpan<byte> bytes, RecordFields fields)
    {
        Utf8Text.RequireValid(file, bytes, 0);
        var text = Encoding.UTF8.GetString(Utf8Text.HasMark(bytes) ? bytes[3..] : bytes);
        var isTabs = file.Format == SourceFormat.TabSeparated;
        var separator = isTabs ? '\t' : !text.Contains(',') && text.Contains(';') ? ';' : ',';
        var columns = new List<string>();
        using var reader = Open(separator, text);
        foreach (var row in reader)
        {
            for (var i = 0; i < row.ColCount; i++)
            {
                columns.Add(row[i].ToString());
            }

            break;
        }

        return new CsvHeader(separator, columns.Count, IndexOf(fields.Text, "text", "text_field"), fields.Label is null ? -1 : IndexOf(fields.Label, "label", "label_field"));

        int IndexOf(string field, string what, string key) => columns.IndexOf(field) is var index and >= 0 && columns.LastIndexOf(field) == index ? index
            : throw new RecordPlace(file, 1, 0).Error(
                $"{(columns.IndexOf(field) < 0 ? "has no" : "has more than one")} column '{field}' but {string.Join(", ", columns.Take(20).Select(c => $"'{(c.Length > 40 ? c[..40] : c)}'"))}. "
                + $"Name the column that holds the {what} in {key}.");
    }
}
