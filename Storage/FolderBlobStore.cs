using System.Runtime.CompilerServices;

namespace LlmPipeline.Storage;

/// <summary>Blobs as files below a folder, for one machine: any number of threads and processes may share it.</summary>
/// <remarks>
/// A blob is written to a file in the store's own folder (<c>.store/tmp</c>), flushed to the disk and renamed. Renames,
/// deletions and leases of a name take turns among all processes, by <see cref="FolderLocks"/>. The version
/// of a blob is its modification time, which a commit moves forward by 100 ns at least, and its length; file systems that
/// keep whole seconds only (FAT) will not do.
/// </remarks>
public sealed class FolderBlobStore : IBlobStore
{
    private static readonly TimeSpan AbandonedAfter = TimeSpan.FromHours(1);

    private readonly string _root;
    private readonly string _temporary;
    private readonly FolderLocks _locks;
    private readonly FolderLeases _leases;

    /// <summary>Opens the store in a folder and makes the folder where there is none.</summary>
    /// <exception cref="IOException">The folder cannot be made.</exception>
    public FolderBlobStore(string folder, TimeProvider? timeProvider = null)
    {
        _root = Path.GetFullPath(folder);
        _temporary = Path.Combine(_root, ".store", "tmp");
        Directory.CreateDirectory(_temporary);
        var locks = Directory.CreateDirectory(Path.Combine(_root, ".store", "locks"));
        _locks = new FolderLocks(locks.FullName, timeProvider ?? TimeProvider.System);
        _leases = new FolderLeases(Path.Combine(_root, ".store", "leases"), _locks, timeProvider ?? TimeProvider.System);
        DeleteAbandoned();
    }

    /// <inheritdoc/>
    public Task<Stream> OpenReadAsync(string name, CancellationToken cancellationToken = default)
    {
        BlobName.Validate(name);
        cancellationToken.ThrowIfCancellationRequested();
        try
        {
            return Task.FromResult<Stream>(new FileStream(PathOf(name), new FileStreamOptions
            {
                Share = FileShare.Read | FileShare.Delete,
                Options = FileOptions.Asynchronous,
            }));
        }
        catch (Exception exception) when (exception is FileNotFoundException or DirectoryNotFoundException || Directory.Exists(PathOf(name)))
        {
            throw new BlobNotFoundException(name, exception);
        }
    }

    /// <inheritdoc/>
    public Task<BlobWriter> CreateAsync(string name, BlobCondition condition = default, CancellationToken cancellationToken = default)
    {
        BlobName.Validate(name);
        cancellationToken.ThrowIfCancellationRequested();
        return Task.FromResult<BlobWriter>(new Writer(this, name, condition));
    }

    /// <inheritdoc/>
    public Task<BlobProperties?> TryGetPropertiesAsync(string name, CancellationToken cancellationToken = default)
    {
        BlobName.Validate(name);
        cancellationToken.ThrowIfCancellationRequested();
        return Task.FromResult(Properties(name, new FileInfo(PathOf(name))));
    }

    /// <inheritdoc/>
    public async IAsyncEnumerable<BlobProperties> ListAsync(string prefix, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        BlobName.ValidatePrefix(prefix);
        await Task.CompletedTask;
        var parent = prefix[..(prefix.LastIndexOf('/') + 1)];
        var found = new List<BlobProperties>();
        Collect(parent.Length == 0 ? _root : PathOf(parent), parent, prefix, found, cancellationToken);
        found.Sort((a, b) => string.CompareOrdinal(a.Name, b.Name));
        foreach (var blob in found)
        {
            cancellationToken.ThrowIfCancellationRequested();
            yield return blob;
        }
    }

    /// <inheritdoc/>
    public async Task<bool> DeleteAsync(string name, CancellationToken cancellationToken = default)
    {
        BlobName.Validate(name);
        var path = PathOf(name);
        using (await _locks.EnterAsync(name, cancellationToken))
        {
            if (!File.Exists(path))
            {
                return false;
            }

            File.Delete(path);
        }

        DeleteEmpty(Path.GetDirectoryName(path)!);
        return true;
    }

    /// <inheritdoc/>
    public Task<IBlobLease?> TryAcquireLeaseAsync(string name, TimeSpan duration, CancellationToken cancellationToken = default)
    {
        BlobName.Validate(name);
        return _leases.TryAcquireAsync(name, duration, cancellationToken);
    }

    /// <inheritdoc/>
    public string? TryGetLocalPath(string name)
    {
        BlobName.Validate(name);
        return File.Exists(PathOf(name)) ? PathOf(name) : null;
    }

    private static BlobProperties? Properties(string name, FileInfo file)
    {
        try
        {
            return new BlobProperties(name, file.Length, ETagOf(file), file.LastWriteTimeUtc);
        }
        catch (Exception exception) when (exception is FileNotFoundException or DirectoryNotFoundException)
        {
            return null;
        }
    }

    private static string ETagOf(FileInfo file) => $"{file.LastWriteTimeUtc.Ticks:x}-{file.Length:x}";

    // Links are left out: nothing outside the folder shows.
    private static void Collect(string folder, string parent, string prefix, List<BlobProperties> found, CancellationToken cancellationToken)
    {
        var options = new EnumerationOptions { AttributesToSkip = FileAttributes.ReparsePoint, IgnoreInaccessible = false };
        try
        {
            foreach (var entry in new DirectoryInfo(folder).EnumerateFileSystemInfos("*", options))
            {
                cancellationToken.ThrowIfCancellationRequested();
                var name = parent + entry.Name;
                var common = Math.Min(name.Length, prefix.Length);
                if (string.CompareOrdinal(name, 0, prefix, 0, common) != 0 || !BlobName.IsValid(name))
                {
                    continue;
                }

                if (entry is DirectoryInfo)
                {
                    Collect(entry.FullName, name + "/", prefix, found, cancellationToken);
                }
                else if (name.Length >= prefix.Length && Properties(name, new FileInfo(entry.FullName)) is { } blob)
                {
                    found.Add(blob);
                }
            }
        }
        catch (DirectoryNotFoundException)
        {
            // Deleted in the meantime, or never there: it has no blobs.
        }
        catch (IOException) when (File.Exists(folder.TrimEnd(Path.DirectorySeparatorChar)))
        {
            // A blob has the name of the folder.
        }
    }

    /// <summary>Deletes a folder and those above it, as far as they are empty; others may delete and write there in the meantime.</summary>
    private void DeleteEmpty(string folder)
    {
        while (true)
        {
            try
            {
                if (folder.Length <= _root.Length || Directory.EnumerateFileSystemEntries(folder).Any())
                {
                    Durable.FlushDirectory(folder);
                    return;
                }

                Directory.Delete(folder);
                folder = Path.GetDirectoryName(folder)!;
            }
            catch (DirectoryNotFoundException) when (folder.Length > _root.Length)
            {
                folder = Path.GetDirectoryName(folder)!;
            }
            catch (IOException exception) when (IsNotEmpty(exception))
            {
                // A blob came after the look: look again.
            }
        }
    }

    // ENOTEMPTY (Linux 39, BSD 66), or Windows' own.
    private static bool IsNotEmpty(IOException exception) => exception.HResult is 39 or 66 || exception.HResult == unchecked((int)0x80070091);

    private string PathOf(string name) => Path.Combine(_root, Path.DirectorySeparatorChar == '/' ? name : name.Replace('/', Path.DirectorySeparatorChar));

    private void DeleteAbandoned()
    {
        foreach (var path in Directory.EnumerateFiles(_temporary))
        {
            try
            {
                if (File.GetLastWriteTimeUtc(path) < DateTime.UtcNow - AbandonedAfter)
                {
                    // Refused while the writer lives: it keeps the file locked.
                    new FileStream(path, FileMode.Open, FileAccess.ReadWrite, FileShare.None).Dispose();
                    File.Delete(path);
                }
            }
            catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
            {
            }
        }
    }

    private sealed class Writer : BlobWriter
    {
        private readonly FolderBlobStore _store;
        private readonly string _name;
        private readonly BlobCondition _condition;
        private readonly string _path;
        private readonly FileStream _file;
        private bool _done;

        public Writer(FolderBlobStore store, string name, BlobCondition condition)
        {
            (_store, _name, _condition) = (store, name, condition);
            _path = Path.Combine(store._temporary, Guid.NewGuid().ToString("N"));
            _file = new FileStream(_path, new FileStreamOptions
            {
                Mode = FileMode.CreateNew,
                Access = FileAccess.ReadWrite,
                Share = FileShare.None,
                BufferSize = 128 * 1024,
                Options = FileOptions.Asynchronous,
            });
        }

        public override Stream Stream => _file;

        public override async Task<string> CommitAsync(CancellationToken cancellationToken = default)
        {
            ObjectDisposedException.ThrowIf(_done, this);
            await _file.FlushAsync(cancellationToken);
            await Task.Run(() => _file.Flush(flushToDisk: true), cancellationToken);
            await _file.DisposeAsync();

            var target = _store.PathOf(_name);
            string eTag;
            using (await _store._locks.EnterAsync(_name, cancellationToken))
            {
                var present = Properties(_name, new FileInfo(target));
                if ((_condition.IfNoneMatch && present is not null) || (_condition.IfMatch is { } wanted && present?.ETag != wanted))
                {
                    throw new BlobConditionException(_name);
                }

                var time = DateTime.UtcNow;
                if (present is not null && present.LastModified.UtcDateTime >= time)
                {
                    time = present.LastModified.UtcDateTime.AddTicks(1);
                }

                File.SetLastWriteTimeUtc(_path, time);
                eTag = ETagOf(new FileInfo(_path));
                Rename(_path, target);
                _done = true;
            }

            try
            {
                Durable.FlushDirectory(Path.GetDirectoryName(target)!);
            }
            catch (DirectoryNotFoundException)
            {
                // Another deleted the blob since, and the folder with it.
            }

            return eTag;
        }

        /// <summary>
        /// Moves the file to its place. Until it is there, another may delete the folder as empty, which .NET tells in as many
        /// ways as it has looks at it; what is wrong for good is wrong again.
        /// </summary>
        private static void Rename(string path, string target)
        {
            for (var attempt = 1; ; attempt++)
            {
                try
                {
                    Durable.CreateDirectory(Path.GetDirectoryName(target)!);
                    File.Move(path, target, overwrite: true);
                    return;
                }
                catch (IOException) when (attempt < 10 && File.Exists(path))
                {
                }
            }
        }

        public override async ValueTask DisposeAsync()
        {
            await _file.DisposeAsync();
            if (!_done)
            {
                _done = true;
                File.Delete(_path);
            }
        }
    }
}
