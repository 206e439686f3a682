using System.Buffers;
using System.Text;
using System.Text.Unicode;

namespace LlmPipeline.Text.Sources;

/// <summary>Strict UTF-8.</summary>
internal static class Utf8Text
{
    private static ReadOnlySpan<byte> ByteOrderMark => [0xEF, 0xBB, 0xBF];

    /// <summary>Decodes a piece; a byte order mark at the start of the file is left out.</summary>
    /// <exception cref="TextSourceException">The bytes are not UTF-8; the message names file and byte offset.</exception>
    public static string Decode(SourcePiece piece)
    {
        var bytes = piece.Bytes.Span;
        RequireValid(piece.File, bytes, piece.Offset);
        return Encoding.UTF8.GetString(piece.Offset == 0 && bytes.StartsWith(ByteOrderMark) ? bytes[3..] : bytes);
    }

    /// <summary>The bytes without a byte order mark at the start of the file.</summary>
    public static ReadOnlySpan<byte> WithoutMark(SourcePiece piece) =>
        piece.Offset == 0 && HasMark(piece.Bytes.Span) ? piece.Bytes.Span[3..] : piece.Bytes.Span;

    /// <summary>Whether a file begins with a byte order mark.</summary>
    public static bool HasMark(ReadOnlySpan<byte> begin) => begin.StartsWith(ByteOrderMark);

    /// <summary>Throws unless all bytes are UTF-8.</summary>
    public static void RequireValid(SourceFile file, ReadOnlySpan<byte> bytes, long offset)
    {
        if (Utf8.IsValid(bytes))
        {
            return;
        }

        var at = FirstInvalid(bytes);
        var hint = offset == 0 && bytes.Length >= 2 && ((bytes[0] == 0xFF && bytes[1] == 0xFE) || (bytes[0] == 0xFE && bytes[1] == 0xFF))
            ? "It looks like UTF-16; convert it, for example with 'iconv -f UTF-16 -t UTF-8'."
            : "Convert it, for example with 'iconv -f LATIN1 -t UTF-8'.";
        throw new TextSourceException(TextSourceProblem.Invalid, $"'{file.Path}' is not UTF-8: invalid byte 0x{bytes[at]:X2} at offset {offset + at}. {hint}");
    }

    /// <summary>Throws unless all bytes of an argument are UTF-8.</summary>
    /// <exception cref="ArgumentException">The message names the offset.</exception>
    public static void RequireValid(ReadOnlySpan<byte> bytes, string argument)
    {
        if (!Utf8.IsValid(bytes))
        {
            var at = FirstInvalid(bytes);
            throw new ArgumentException($"The text is not UTF-8: invalid byte 0x{bytes[at]:X2} at offset {at}.", argument);
        }
    }

    /// <summary>Length without an unfinished character at the end.</summary>
    public static int WholeCharacters(ReadOnlySpan<byte> bytes)
    {
        for (var back = 1; back <= Math.Min(3, bytes.Length); back++)
        {
            var value = bytes[^back];
            if ((value & 0xC0) == 0x80)
            {
                continue;
            }

            var needed = value >= 0xF0 ? 4 : value >= 0xE0 ? 3 : value >= 0xC0 ? 2 : 1;
            return needed > back ? bytes.Length - back : bytes.Length;
        }

        return bytes.Length;
    }

    /// <summary>Number of code points in valid UTF-8.</summary>
    public static int CountCharacters(ReadOnlySpan<byte> bytes)
    {
        var count = 0;
        foreach (var value in bytes)
        {
            count += (value & 0xC0) != 0x80 ? 1 : 0;
        }

        return count;
    }

    /// <summary>Number of bytes that the first code points take.</summary>
    public static int BytesOfCharacters(ReadOnlySpan<byte> bytes, long characters)
    {
        for (var i = 0; i < bytes.Length; i++)
        {
            if ((bytes[i] & 0xC0) != 0x80 && characters-- == 0)
            {
                return i;
            }
        }

        return bytes.Length;
    }

    private static int FirstInvalid(ReadOnlySpan<byte> bytes)
    {
        var at = 0;
        while (at < bytes.Length && Rune.DecodeFromUtf8(bytes[at..], out _, out var consumed) == OperationStatus.Done)
        {
            at += consumed;
        }

        return at;
    }
}
