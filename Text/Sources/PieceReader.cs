using System.Buffers.Binary;
using System.IO.Compression;

namespace LlmPipeline.Text.Sources;

/// <summary>Reads source files as pieces of bounded size.</summary>
internal static class PieceReader
{
    /// <summary>A plain text file above this many bytes is cut into documents of at most this size, at line ends where there are any.</summary>
    public const int MaxDocumentBytes = 8 << 20;

    /// <summary>Longest line of a .jsonl file, in bytes.</summary>
    public const int MaxLineBytes = 64 << 20;

    private const int JsonPieceBytes = 1 << 20;
    private const int MaxXmlBytes = 512 << 20;

    // Text shrinks to a third, repetitive JSON to a fiftieth; gzip can go to a thousandth.
    private const long MaxExpansion = 200;
    private const long FreeExpansionBytes = 64 << 20;

    /// <summary>The pieces of a file, in order.</summary>
    /// <exception cref="TextSourceException">The file cannot be read.</exception>
    public static IEnumerable<SourcePiece> Read(SourceFile file)
    {
        using var disk = Open(file);
        using var stream = file.Compressed ? new GZipStream(disk, CompressionMode.Decompress) : (Stream)disk;
        var target = file.Format switch
        {
            SourceFormat.PlainText => MaxDocumentBytes,
            SourceFormat.JsonLines => JsonPieceBytes,
            _ => MaxXmlBytes,
        };

        byte[] carry = [];
        long offset = 0;
        long line = 1;
        long diskRead = 0;
        while (true)
        {
            var (bytes, atEnd) = Fill(file, stream, carry, target);
            if (file.Compressed && offset + bytes.Length > FreeExpansionBytes + (MaxExpansion * file.Length))
            {
                throw new TextSourceException(TextSourceProblem.Invalid,
                    $"'{file.Path}' grows to more than {MaxExpansion} times its size when decompressed and was not read further. Decompress it yourself if it is meant to.");
            }

            var length = atEnd ? bytes.Length : CutLength(file, bytes, ref target);
            carry = bytes[length..];
            if (length > 0)
            {
                var piece = bytes.AsMemory(0, length);
                var diskBytes = file.Compressed ? disk.Position - diskRead : length;
                diskRead += diskBytes;
                yield return new SourcePiece(file, piece, offset, line, diskBytes);
                offset += length;
                line += file.Format == SourceFormat.JsonLines ? piece.Span.Count((byte)'\n') : 0;
                target = file.Format == SourceFormat.JsonLines ? JsonPieceBytes : target;
            }

            if (atEnd)
            {
                RequireWholeArchive(file, disk, offset);
                yield break;
            }
        }
    }

    // GZipStream takes the end of a truncated file for the end of the data. The last four bytes of an archive are the length of its
    // last member, which cannot be more than that of all members.
    private static void RequireWholeArchive(SourceFile file, FileStream disk, long length)
    {
        if (!file.Compressed || length > uint.MaxValue)
        {
            return;
        }

        Span<byte> trailer = stackalloc byte[4];
        disk.Position = Math.Max(0, disk.Length - 4);
        if (disk.ReadAtLeast(trailer, 4, throwOnEndOfStream: false) < 4 || BinaryPrimitives.ReadUInt32LittleEndian(trailer) > length)
        {
            throw new TextSourceException(TextSourceProblem.Invalid, $"'{file.Path}' is not a whole gzip file: it ends too early. Copy or compress it again.");
        }
    }

    private static FileStream Open(SourceFile file)
    {
        try
        {
            return new FileStream(file.Path, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0, FileOptions.SequentialScan);
        }
        catch (FileNotFoundException exception)
        {
            throw new TextSourceException(TextSourceProblem.NotFound, $"'{file.Path}' was there when the dataset was created, and is gone. Put it back and create the dataset again.", exception);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new TextSourceException(TextSourceProblem.NotFound, $"'{file.Path}' cannot be read: {exception.Message} Give the Preprocessor's user the right to read it.", exception);
        }
    }

    // The carried bytes, then bytes of the stream up to the target size.
    private static (byte[] Bytes, bool AtEnd) Fill(SourceFile file, Stream stream, byte[] carry, int target)
    {
        var capacity = file.Compressed ? target : (int)Math.Min(target, Math.Max(file.Length, 1) + 1);
        var bytes = new byte[Math.Max(capacity, carry.Length)];
        carry.CopyTo(bytes, 0);
        var count = carry.Length;
        try
        {
            while (true)
            {
                var read = stream.ReadAtLeast(bytes.AsSpan(count), bytes.Length - count, throwOnEndOfStream: false);
                count += read;
                if (count < bytes.Length)
                {
                    return (bytes[..count], true);
                }

                if (bytes.Length >= target)
                {
                    return (bytes, false);
                }

                Array.Resize(ref bytes, target);
            }
        }
        catch (InvalidDataException exception)
        {
            throw new TextSourceException(TextSourceProblem.Invalid, $"'{file.Path}' is not a whole gzip file: {exception.Message} Copy or compress it again.", exception);
        }
    }

    private static int CutLength(SourceFile file, byte[] bytes, ref int target)
    {
        var lineEnd = bytes.AsSpan().LastIndexOf((byte)'\n') + 1;
        switch (file.Format)
        {
            case SourceFormat.PlainText:
                return lineEnd > 0 ? lineEnd : Utf8Text.WholeCharacters(bytes);
            case SourceFormat.JsonLines when lineEnd == 0 && target >= MaxLineBytes:
                throw new TextSourceException(TextSourceProblem.Invalid, $"'{file.Path}' has a line of more than {MaxLineBytes >> 20} MiB. A .jsonl file has one document a line; is it one?");
            case SourceFormat.JsonLines:
                target = lineEnd == 0 ? target * 2 : target;
                return lineEnd;
            default:
                throw new TextSourceException(TextSourceProblem.Invalid, $"'{file.Path}' is larger than {MaxXmlBytes >> 20} MiB.");
        }
    }
}
