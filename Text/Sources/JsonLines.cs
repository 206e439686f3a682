using System.Text.Json;

namespace LlmPipeline.Text.Sources;

/// <summary>Reads one property of each line of a .jsonl file.</summary>
internal static class JsonLines
{
    /// <summary>A longer line is read as a stream, and its text cut into documents (<see cref="JsonTextScanner"/>).</summary>
    public const int MaxBufferedLine = TextCut.MaxBytes;

    private const int PieceBytes = 1 << 20;

    /// <summary>
    /// Pieces of whole lines. A range begins after the first line end at or after its start, unless it begins with the file, and ends
    /// with the first line end at or after its end.
    /// </summary>
    public static IEnumerable<SourcePiece> Read(SourceFile file, string path, SourceRange range, RecordFields fields, InvalidRecords onInvalid)
    {
        using var stream = SourceStream.Open(file, path);
        var offset = LineStart(stream, range);
        if (offset < 0)
        {
            yield break;
        }

        byte[] carry = [];
        var line = range.Start == 0 ? 1L : 0;
        var diskRead = file.Compressed ? 0 : range.Start;
        var target = PieceBytes;
        while (true)
        {
            var bytes = GC.AllocateUninitializedArray<byte>((int)Math.Min(target, file.Compressed ? target : Math.Max(1, file.Length - offset + 1)));
            carry.CopyTo(bytes, 0);
            var count = carry.Length + stream.Fill(bytes.AsSpan(carry.Length));
            var atEnd = count < bytes.Length;
            var (length, isLast) = CutLength(bytes.AsSpan(0, count), offset, range.End, atEnd);
            if (length == 0 && !isLast && target < MaxBufferedLine)
            {
                carry = bytes[..count];
                target *= 2;
                continue;
            }

            if (length == 0 && !isLast)
            {
                var longLine = fields.Label is null ? new LongJsonLine(file, stream, bytes, offset, line, fields.Text)
                    : throw new RecordPlace(file, line, offset).Error($"has more than {MaxBufferedLine >> 20} MiB, which a document with a label may not have. Shorten or remove it.");
                foreach (var documents in longLine.Read(onInvalid))
                {
                    yield return documents;
                }

                isLast = longLine.End > range.End || longLine.AtEnd;
                carry = longLine.Rest;
                offset = longLine.End;
                line += line > 0 ? 1 : 0;
            }
            else
            {
                if (length > 0)
                {
                    var piece = bytes.AsMemory(0, length);
                    yield return new SourcePiece(file, piece, offset, line, DiskBytes(offset + length));
                    offset += length;
                    line += line > 0 ? piece.Span.Count((byte)'\n') : 0;
                }

                carry = bytes[length..count];
            }

            target = Math.Max(PieceBytes, carry.Length + 1);
            if (isLast)
            {
                yield break;
            }
        }

        long DiskBytes(long position)
        {
            var before = diskRead;
            diskRead = file.Compressed ? stream.DiskPosition : position;
            return diskRead - before;
        }
    }

    /// <summary>The documents of a piece.</summary>
    public static ParsedPiece Parse(SourcePiece piece, RecordFields fields, InvalidRecords onInvalid)
    {
        var documents = new List<RawDocument>();
        var skipped = SkippedRecords.None;
        var rest = Utf8Text.WithoutMark(piece);
        var line = piece.FirstLine;
        var offset = piece.Offset + piece.Bytes.Length - rest.Length;
        while (!rest.IsEmpty)
        {
            var end = rest.IndexOf((byte)'\n');
            var bytes = end < 0 ? rest : rest[..end];
            if (bytes.ContainsAnyExcept(" \t\r"u8))
            {
                try
                {
                    var place = new RecordPlace(piece.File, line, offset);
                    Utf8Text.RequireValid(piece.File, bytes, offset);
                    documents.Add(ReadFields(place, bytes, fields));
                }
                catch (TextSourceException exception) when (onInvalid == InvalidRecords.Skip)
                {
                    skipped = skipped.Add(exception.Message);
                }
            }

            line += line > 0 ? 1 : 0;
            offset += bytes.Length + 1;
            rest = end < 0 ? [] : rest[(end + 1)..];
        }

        return new ParsedPiece(documents, skipped);
    }

    // -1 where no line of the range begins.
    private static long LineStart(SourceStream stream, SourceRange range)
    {
        if (range.Start == 0)
        {
            return 0;
        }

        stream.Position = range.Start;
        var buffer = new byte[1 << 16];
        for (var position = range.Start; position < range.End;)
        {
            var read = stream.Fill(buffer);
            var at = buffer.AsSpan(0, read).IndexOf((byte)'\n');
            if (at >= 0)
            {
                stream.Position = position + at + 1;
                return position + at < range.End ? position + at + 1 : -1;
            }

            position += read;
            if (read < buffer.Length)
            {
                break;
            }
        }

        return -1;
    }

    private static (int Length, bool IsLast) CutLength(ReadOnlySpan<byte> bytes, long offset, long end, bool atEnd)
    {
        if (offset + bytes.Length > end)
        {
            var from = (int)Math.Max(0, end - offset);
            var at = bytes[from..].IndexOf((byte)'\n');
            if (at >= 0)
            {
                return (from + at + 1, true);
            }
        }

        return atEnd ? (bytes.Length, true) : (bytes.LastIndexOf((byte)'\n') + 1, false);
    }

    private static RawDocument ReadFields(RecordPlace place, ReadOnlySpan<byte> bytes, RecordFields fields)
    {
        try
        {
            var reader = new Utf8JsonReader(bytes);
            reader.Read();
            if (reader.TokenType != JsonTokenType.StartObject)
            {
                throw place.Error(JsonTextScanner.NotAnObject);
            }

            var field = fields.Text;
            string? text = null, label = null;
            while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
            {
                var found = reader.ValueTextEquals(field);
                var isLabel = fields.Label is not null && reader.ValueTextEquals(fields.Label);
                reader.Read();
                if (found)
                {
                    text = text is not null ? throw place.Error(JsonTextScanner.Twice(field))
                        : reader.TokenType == JsonTokenType.String ? reader.GetString()
                        : throw place.Error(JsonTextScanner.NotAString(field));
                }

                if (isLabel)
                {
                    label = label is not null ? throw place.Error(JsonTextScanner.Twice(fields.Label!)) : Label(ref reader, place, fields.Label!);
                }

                reader.Skip();
            }

            // Anything after the object is an error of the reader.
            reader.Read();
            return new RawDocument(text ?? throw place.Error(JsonTextScanner.Missing(field)), null, fields.Label is null ? null : label ?? throw place.Error(NoLabel(fields.Label)));
        }
        catch (Exception exception) when (exception is JsonException or InvalidOperationException)
        {
            throw place.Error($"is not valid JSON: {exception.Message} Mend or remove the line.", exception);
        }
    }

    private static string Label(ref Utf8JsonReader reader, RecordPlace place, string field) => reader.TokenType switch
    {
        JsonTokenType.String when reader.GetString() is { Length: > 0 } label => label,
        JsonTokenType.Number when reader.TryGetInt64(out var number) => number.ToString(System.Globalization.CultureInfo.InvariantCulture),
        JsonTokenType.True => "true",
        JsonTokenType.False => "false",
        _ => throw place.Error(NoLabel(field)),
    };

    private static string NoLabel(string field) => $"has no label in '{field}': a text that is not empty, a whole number, true or false. Mend or remove the line.";
}
