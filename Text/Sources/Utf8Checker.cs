namespace LlmPipeline.Text.Sources;

/// <summary>Checks bytes for UTF-8 while they come in parts.</summary>
/// <param name="file">Is named in errors.</param>
/// <param name="offset">Position of the first byte in the file.</param>
internal sealed class Utf8Checker(SourceFile file, long offset)
{
    private readonly byte[] _open = new byte[4];
    private int _openCount;
    private long _offset = offset;

    /// <summary>Takes the next bytes.</summary>
    /// <exception cref="TextSourceException">They are not UTF-8.</exception>
    public void Push(ReadOnlySpan<byte> bytes)
    {
        while (_openCount > 0 && !bytes.IsEmpty)
        {
            _open[_openCount++] = bytes[0];
            bytes = bytes[1..];
            if (_openCount == _open.Length || Utf8Text.WholeCharacters(_open.AsSpan(0, _openCount)) == _openCount)
            {
                Check(_open.AsSpan(0, _openCount));
                _openCount = 0;
            }
        }

        var whole = Utf8Text.WholeCharacters(bytes);
        Check(bytes[..whole]);
        bytes[whole..].CopyTo(_open);
        _openCount = Math.Max(_openCount, bytes.Length - whole);
    }

    /// <summary>Says that no bytes follow.</summary>
    /// <exception cref="TextSourceException">A character is not complete.</exception>
    public void Finish() => Check(_open.AsSpan(0, _openCount));

    private void Check(ReadOnlySpan<byte> bytes)
    {
        Utf8Text.RequireValid(file, bytes, _offset);
        _offset += bytes.Length;
    }
}
