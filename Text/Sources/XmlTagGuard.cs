namespace LlmPipeline.Text.Sources;

/// <summary>
/// Passes XML on and refuses tags and comments of more than a megabyte: a reader of XML holds the one it is in, however long it is.
/// </summary>
internal sealed class XmlTagGuard(SourceFile file, Stream stream) : Stream
{
    private const int MaxTagBytes = 1 << 20;

    private long _position;
    private long _tagStart = -1;

    public override bool CanRead => true;

    public override bool CanSeek => false;

    public override bool CanWrite => false;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => _position;
        set => throw new NotSupportedException();
    }

    public override int Read(Span<byte> buffer)
    {
        var read = stream.Read(buffer);
        var bytes = buffer[..read];
        var last = bytes.LastIndexOfAny((byte)'<', (byte)'>');
        if (_tagStart >= 0 && (last < 0 ? read : bytes.IndexOfAny((byte)'<', (byte)'>')) + _position - _tagStart > MaxTagBytes)
        {
            throw new TextSourceException(TextSourceProblem.Invalid,
                $"'{file.Path}' has a tag or comment of more than {MaxTagBytes >> 20} MiB at offset {_tagStart}. Is it XML documentation?");
        }

        if (last >= 0)
        {
            _tagStart = bytes[last] == (byte)'<' ? _position + last : -1;
        }

        _position += read;
        return read;
    }

    public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override void Flush()
    {
    }
}
