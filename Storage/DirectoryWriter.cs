using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;

namespace LlmPipeline.Storage;

/// <summary>Writes the files of a directory, then its manifest. Nothing exists before <see cref="CommitAsync"/>. Files may be written in parallel.</summary>
public sealed class DirectoryWriter
{
    private readonly IBlobStore _store;
    private readonly string _directory;
    private readonly Lock _lock = new();
    private readonly SortedDictionary<string, DirectoryFile?> _files = new(StringComparer.Ordinal);

    internal DirectoryWriter(IBlobStore store, string directory)
    {
        BlobName.Validate(directory);
        (_store, _directory) = (store, directory);
    }

    /// <summary>Writes one file; its SHA-256 and length are taken on the way.</summary>
    /// <param name="file">Name within the directory, for example <c>model.safetensors</c>.</param>
    /// <param name="write">Writes the content.</param>
    /// <param name="cancellationToken">Stops the writing.</param>
    /// <exception cref="ArgumentException">The name is not valid, or the file was written already.</exception>
    public async Task WriteAsync(string file, Func<Stream, CancellationToken, Task> write, CancellationToken cancellationToken = default)
    {
        BlobName.Validate(file);
        lock (_lock)
        {
            if (file == BlobStoreExtensions.ManifestFile || !_files.TryAdd(file, null))
            {
                throw new ArgumentException($"'{file}' is in '{_directory}' already.", nameof(file));
            }
        }

        try
        {
            await using var writer = await _store.CreateAsync($"{_directory}/{file}", default, cancellationToken);
            await using var hashing = new HashingStream(writer.Stream);
            await write(hashing, cancellationToken);
            await writer.CommitAsync(cancellationToken);
            lock (_lock)
            {
                _files[file] = new DirectoryFile(file, hashing.Length, hashing.Finish());
            }
        }
        catch
        {
            lock (_lock)
            {
                _files.Remove(file);
            }

            throw;
        }
    }

    /// <summary>Writes one UTF-8 text file.</summary>
    public Task WriteTextAsync(string file, string text, CancellationToken cancellationToken = default) =>
        WriteAsync(file, (stream, token) => stream.WriteAsync(Encoding.UTF8.GetBytes(text), token).AsTask(), cancellationToken);

    /// <summary>Writes <c>manifest.json</c>, which makes the directory exist. <paramref name="properties"/> (JSON) goes into it.</summary>
    /// <exception cref="BlobConditionException">The directory exists already and <paramref name="condition"/> says it must not.</exception>
    public async Task<DirectoryManifest> CommitAsync(JsonObject? properties = null, BlobCondition condition = default, CancellationToken cancellationToken = default)
    {
        DirectoryManifest manifest;
        lock (_lock)
        {
            var unfinished = _files.FirstOrDefault(f => f.Value is null).Key;
            if (unfinished is not null)
            {
                throw new InvalidOperationException($"'{unfinished}' of '{_directory}' is still being written.");
            }

            manifest = new DirectoryManifest([.. _files.Values.Select(f => f!)], (JsonObject?)properties?.DeepClone() ?? []);
        }

        await _store.WriteTextAsync($"{_directory}/{BlobStoreExtensions.ManifestFile}", manifest.ToJson(), condition, cancellationToken);
        return manifest;
    }

    /// <summary>Passes bytes on, and takes their length and SHA-256.</summary>
    private sealed class HashingStream(Stream inner) : Stream
    {
        private readonly IncrementalHash _hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        private long _length;

        public override bool CanRead => false;

        public override bool CanSeek => false;

        public override bool CanWrite => true;

        public override long Length => _length;

        public override long Position
        {
            get => _length;
            set => throw new NotSupportedException();
        }

        public string Finish() => Convert.ToHexStringLower(_hash.GetHashAndReset());

        public override void Write(ReadOnlySpan<byte> buffer)
        {
            inner.Write(buffer);
            _hash.AppendData(buffer);
            _length += buffer.Length;
        }

        public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

        public override async ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
        {
            await inner.WriteAsync(buffer, cancellationToken);
            _hash.AppendData(buffer.Span);
            _length += buffer.Length;
        }

        public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
            WriteAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

        public override void Flush() => inner.Flush();

        public override Task FlushAsync(CancellationToken cancellationToken) => inner.FlushAsync(cancellationToken);

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        protected override void Dispose(bool disposing)
        {
            _hash.Dispose();
            base.Dispose(disposing);
        }
    }
}
