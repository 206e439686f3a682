using System.IO.Compression;
using ZstdSharp;

namespace LlmPipeline.Text.Sources;

/// <summary>The decompressed bytes of a source file, in order; its errors name the file.</summary>
internal sealed class SourceStream : Stream
{
    // Text shrinks to a third, repetitive JSON to a fiftieth; gzip can go to a thousandth.
    private const long MaxExpansion = 200;
    private const long FreeExpansionBytes = 64 << 20;
    private const int BufferBytes = 1 << 17;

    private readonly SourceFile _file;
    private readonly FileStream _disk;
    private readonly Stream _content;
    private long _position;

    private SourceStream(SourceFile file, FileStream disk)
    {
        _file = file;
        _disk = disk;
        _content = file.Compression switch
        {
            SourceCompression.Gzip => new GZipStream(disk, CompressionMode.Decompress),
            SourceCompression.Zstandard => new DecompressionStream(disk, BufferBytes),
            _ => disk,
        };
    }

    /// <summary>Bytes of the file on disk that were read.</summary>
    public long DiskPosition => _disk.Position;

    public override bool CanRead => true;

    public override bool CanSeek => !_file.Compressed;

    public override bool CanWrite => false;

    public override long Length => CanSeek ? _disk.Length : throw new NotSupportedException();

    public override long Position
    {
        get => _position;
        set => _disk.Position = _position = CanSeek ? value : throw new NotSupportedException();
    }

    /// <summary>Opens a file.</summary>
    /// <param name="file">What was found when the dataset was created.</param>
    /// <param name="path">Where its content lies.</param>
    /// <exception cref="TextSourceException">It is gone, not readable, or another one.</exception>
    public static SourceStream Open(SourceFile file, string path)
    {
        try
        {
            var disk = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0, FileOptions.SequentialScan);
            if (disk.Length != file.Length || (file.Identity is null && File.GetLastWriteTimeUtc(disk.SafeFileHandle) != file.Modified))
            {
                disk.Dispose();
                throw new TextSourceException(TextSourceProblem.Changed, $"'{file.Path}' changed after the dataset was created. Create it again.");
            }

            return new SourceStream(file, disk);
        }
        catch (Exception exception) when (exception is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new TextSourceException(TextSourceProblem.NotFound, $"'{file.Path}' was there when the dataset was created, and is gone. Put it back and create the dataset again.", exception);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new TextSourceException(TextSourceProblem.NotFound, $"'{file.Path}' cannot be read: {exception.Message} Give the Preprocessor's user the right to read it.", exception);
        }
    }

    public override int Read(Span<byte> buffer)
    {
        try
        {
            var read = _content.Read(buffer);
            _position += read;
            if (_file.Compressed && _position > FreeExpansionBytes + (MaxExpansion * _file.Length))
            {
                throw new TextSourceException(TextSourceProblem.Invalid,
                    $"'{_file.Path}' grows to more than {MaxExpansion} times its size when decompressed and was not read further than offset {_position}. Decompress it yourself if it is meant to.");
            }

            return read;
        }
        catch (Exception exception) when (exception is InvalidDataException or ZstdException or EndOfStreamException)
        {
            throw new TextSourceException(TextSourceProblem.Invalid,
                $"'{_file.Path}' is not a whole {(_file.Compression == SourceCompression.Gzip ? "gzip" : "zstd")} file: {exception.Message} "
                + $"It was good up to offset {_position} of what it holds. Copy or compress it again.", exception);
        }
    }

    /// <summary>Reads until the buffer is full or the file ends.</summary>
    public int Fill(Span<byte> buffer) => this.ReadAtLeast(buffer, buffer.Length, throwOnEndOfStream: false);

    public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

    // At once: readers of formats that only know asynchronous streams then never wait on the thread pool.
    public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default) => new(Read(buffer.Span));

    public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) => Task.FromResult(Read(buffer.AsSpan(offset, count)));

    public override long Seek(long offset, SeekOrigin origin) => Position = offset + origin switch
    {
        SeekOrigin.Begin => 0,
        SeekOrigin.Current => Position,
        _ => Length,
    };

    public override void SetLength(long value) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override void Flush()
    {
    }

    protected override void Dispose(bool disposing)
    {
        _content.Dispose();
        _disk.Dispose();
        base.Dispose(disposing);
    }
}
