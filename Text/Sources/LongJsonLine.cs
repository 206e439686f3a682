namespace LlmPipeline.Text.Sources;

/// <summary>Reads a line of JSON of any length in bounded memory. Its text becomes documents of at most 8 MiB.</summary>
/// <param name="file">What is read.</param>
/// <param name="stream">Stands after <paramref name="begin"/>.</param>
/// <param name="begin">The first bytes of the line, without a line end.</param>
/// <param name="offset">Position of the line in the file.</param>
/// <param name="line">Its number; 0 where it is not known.</param>
/// <param name="field">The property that holds the text.</param>
internal sealed class LongJsonLine(SourceFile file, SourceStream stream, byte[] begin, long offset, long line, string field)
{
    private const int ChunkBytes = 1 << 20;

    // Length of a byte order mark.
    private int _mark;

    /// <summary>Position after the line's end.</summary>
    public long End { get; private set; }

    /// <summary>Whether the file ends with the line.</summary>
    public bool AtEnd { get; private set; }

    /// <summary>Bytes that were read and belong to the next line.</summary>
    public byte[] Rest { get; private set; } = [];

    /// <summary>
    /// The documents, as they become known. A line that proves broken after some of them were given is counted as skipped, or is an
    /// error; they stay.
    /// </summary>
    public IEnumerable<SourcePiece> Read(InvalidRecords onInvalid)
    {
        var place = new RecordPlace(file, line, offset);
        var cutter = new TextCutter();
        var scanner = new JsonTextScanner(field, cutter);
        _mark = offset == 0 && Utf8Text.HasMark(begin) ? 3 : 0;
        var utf8 = new Utf8Checker(file, offset + _mark);
        TextSourceException? broken = null;
        long reported = 0;
        foreach (var chunk in Chunks())
        {
            broken ??= TryScan(scanner, utf8, chunk.Span, place);
            if (broken is not null && onInvalid == InvalidRecords.Fail)
            {
                throw broken;
            }

            while (broken is null && cutter.TryTake(out var document))
            {
                yield return Piece(document);
            }
        }

        broken ??= TryFinish(scanner, utf8, place);
        if (broken is not null)
        {
            yield return onInvalid == InvalidRecords.Fail ? throw broken : Piece(default) with { Skipped = SkippedRecords.None.Add(broken.Message) };
            yield break;
        }

        while (cutter.TryTake(out var document))
        {
            yield return Piece(document);
        }

        SourcePiece Piece(ReadOnlyMemory<byte> document)
        {
            var disk = file.Compressed ? 0 : End - offset;
            var piece = SourcePiece.OfDocuments(file, document.IsEmpty ? [] : [new RawDocument(System.Text.Encoding.UTF8.GetString(document.Span))], disk - reported);
            reported = disk;
            return piece;
        }
    }

    // Up to the line end, which is left out.
    private IEnumerable<ReadOnlyMemory<byte>> Chunks()
    {
        for (var at = _mark; at < begin.Length; at += ChunkBytes)
        {
            var length = Math.Min(ChunkBytes, begin.Length - at);
            End = offset + at + length;
            yield return begin.AsMemory(at, length);
        }

        begin = [];
        var buffer = new byte[ChunkBytes];
        while (true)
        {
            var read = stream.Fill(buffer);
            var end = buffer.AsSpan(0, read).IndexOf((byte)'\n');
            if (end >= 0)
            {
                Rest = buffer[(end + 1)..read];
                End += end + 1;
                yield return buffer.AsMemory(0, end);
                yield break;
            }

            End += read;
            AtEnd = read < buffer.Length;
            yield return buffer.AsMemory(0, read);
            if (AtEnd)
            {
                yield break;
            }
        }
    }

    private static TextSourceException? TryScan(JsonTextScanner scanner, Utf8Checker utf8, ReadOnlySpan<byte> bytes, RecordPlace place)
    {
        try
        {
            utf8.Push(bytes);
            scanner.Push(bytes);
            return null;
        }
        catch (JsonScanException exception)
        {
            return place.Error(exception.Message, exception);
        }
        catch (TextSourceException exception)
        {
            return exception;
        }
    }

    private static TextSourceException? TryFinish(JsonTextScanner scanner, Utf8Checker utf8, RecordPlace place)
    {
        try
        {
            utf8.Finish();
            scanner.Finish();
            return null;
        }
        catch (JsonScanException exception)
        {
            return place.Error(exception.Message, exception);
        }
        catch (TextSourceException exception)
        {
            return exception;
        }
    }
}
