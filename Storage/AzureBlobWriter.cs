using Azure;
using Azure.Storage.Blobs.Models;
using Azure.Storage.Blobs.Specialized;

namespace LlmPipeline.Storage;

/// <summary>Uploads blocks as they fill up; the commit is one request.</summary>
internal sealed class AzureBlobWriter : BlobWriter
{
    /// <summary>Bytes of a block. 50,000 of them, the most a blob may have, make 390 GiB.</summary>
    public const int BlockSize = 8 * 1024 * 1024;

    private const string CommitKey = "commit";

    private readonly BlockBlobClient _blob;
    private readonly string _name;
    private readonly BlobCondition _condition;
    private readonly BlockStream _stream;

    public AzureBlobWriter(BlockBlobClient blob, string name, BlobCondition condition)
    {
        (_blob, _name, _condition) = (blob, name, condition);
        _stream = new BlockStream(blob);
    }

    public override Stream Stream => _stream;

    public override async Task<string> CommitAsync(CancellationToken cancellationToken = default)
    {
        var commit = Guid.NewGuid().ToString("N");
        var metadata = new Dictionary<string, string> { [CommitKey] = commit };
        var conditions = new BlobRequestConditions
        {
            IfMatch = _condition.IfMatch is { } eTag ? new ETag(eTag) : null,
            IfNoneMatch = _condition.IfNoneMatch ? ETag.All : null,
        };
        try
        {
            var rest = _stream.TakeBuffered();
            if (_stream.Blocks.Count == 0)
            {
                return AzureBlobStore.TextOf((await _blob.UploadAsync(rest, new BlobUploadOptions { Conditions = conditions, Metadata = metadata }, cancellationToken)).Value.ETag);
            }

            if (rest.Length > 0)
            {
                await _stream.StageAsync(rest, cancellationToken);
            }

            var options = new CommitBlockListOptions { Conditions = conditions, Metadata = metadata };
            return AzureBlobStore.TextOf((await _blob.CommitBlockListAsync(_stream.Blocks, options, cancellationToken)).Value.ETag);
        }
        catch (RequestFailedException exception) when (exception.Status is 409 or 412 || exception.ErrorCode == BlobErrorCode.InvalidBlockList)
        {
            // A repeated request after a lost answer meets its own first attempt.
            return await ETagIfMineAsync(commit, cancellationToken) ?? throw new BlobConditionException(_name, exception);
        }
        catch (RequestFailedException exception) when (exception.Status == 404 && _condition.IfMatch is not null)
        {
            throw new BlobConditionException(_name, exception);
        }
    }

    // Blocks that were never committed are dropped by the service.
    public override ValueTask DisposeAsync() => _stream.DisposeAsync();

    private async Task<string?> ETagIfMineAsync(string commit, CancellationToken cancellationToken)
    {
        try
        {
            var found = (await _blob.GetPropertiesAsync(cancellationToken: cancellationToken)).Value;
            return found.Metadata.TryGetValue(CommitKey, out var value) && value == commit ? AzureBlobStore.TextOf(found.ETag) : null;
        }
        catch (RequestFailedException exception) when (exception.Status == 404)
        {
            return null;
        }
    }

    private sealed class BlockStream(BlockBlobClient blob) : Stream
    {
        private readonly string _prefix = Guid.NewGuid().ToString("N");
        private byte[] _buffer = new byte[64 * 1024];
        private int _count;
        private long _written;

        public List<string> Blocks { get; } = [];

        public override bool CanRead => false;

        public override bool CanSeek => false;

        public override bool CanWrite => true;

        public override long Length => _written;

        public override long Position
        {
            get => _written;
            set => throw new NotSupportedException();
        }

        public MemoryStream TakeBuffered()
        {
            var taken = new MemoryStream(_buffer, 0, _count, writable: false);
            (_buffer, _count) = ([], 0);
            return taken;
        }

        public async Task StageAsync(MemoryStream block, CancellationToken cancellationToken)
        {
            // Ids of one blob have one length.
            var id = Convert.ToBase64String(System.Text.Encoding.ASCII.GetBytes($"{_prefix}{Blocks.Count:D8}"));
            await blob.StageBlockAsync(id, block, cancellationToken: cancellationToken);
            Blocks.Add(id);
        }

        public override async ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
        {
            while (buffer.Length > 0)
            {
                if (_count == BlockSize)
                {
                    await StageAsync(new MemoryStream(_buffer, 0, _count, writable: false), cancellationToken);
                    _count = 0;
                }

                if (_count == _buffer.Length)
                {
                    Array.Resize(ref _buffer, Math.Clamp(2 * _count, 64 * 1024, BlockSize));
                }

                var part = Math.Min(buffer.Length, _buffer.Length - _count);
                buffer.Span[..part].CopyTo(_buffer.AsSpan(_count));
                _count += part;
                _written += part;
                buffer = buffer[part..];
            }
        }

        public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
            WriteAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

        public override void Write(byte[] buffer, int offset, int count) => WriteAsync(buffer.AsMemory(offset, count)).AsTask().GetAwaiter().GetResult();

        public override void Write(ReadOnlySpan<byte> buffer) => WriteAsync(buffer.ToArray()).AsTask().GetAwaiter().GetResult();

        public override void Flush()
        {
        }

        public override Task FlushAsync(CancellationToken cancellationToken) => Task.CompletedTask;

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();
    }
}
