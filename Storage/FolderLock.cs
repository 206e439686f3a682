using System.Collections.Concurrent;
using System.Diagnostics.CodeAnalysis;

namespace LlmPipeline.Storage;

/// <summary>Mutual exclusion between the threads of all processes that use a folder, by an advisory lock on a file.</summary>
[SuppressMessage("Design", "CA1001", Justification = "Lives as long as the process; its semaphore has no wait handle.")]
internal sealed class FolderLock
{
    private static readonly ConcurrentDictionary<string, FolderLock> Locks = new(StringComparer.Ordinal);

    private readonly string _path;
    private readonly SemaphoreSlim _gate = new(1);

    private FolderLock(string path) => _path = path;

    public static FolderLock For(string path) => Locks.GetOrAdd(path, p => new FolderLock(p));

    /// <summary>Waits for the lock; disposing the result frees it, and so does the death of the process.</summary>
    public async Task<IDisposable> EnterAsync(CancellationToken cancellationToken)
    {
        await _gate.WaitAsync(cancellationToken);
        try
        {
            for (var attempt = 0; ; attempt++)
            {
                try
                {
                    return new Holder(_gate, new FileStream(_path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, bufferSize: 0));
                }
                catch (IOException exception) when (IsHeldElsewhere(exception))
                {
                    // .NET has no blocking file lock; holders need about a millisecond.
                    await Task.Delay(TimeSpan.FromMilliseconds(Math.Min(1 + attempt, 10)), cancellationToken);
                }
            }
        }
        catch
        {
            _gate.Release();
            throw;
        }
    }

    // EWOULDBLOCK (Linux 11, BSD 35) or a Windows sharing violation; everything else is a fault of the folder.
    private static bool IsHeldElsewhere(IOException exception) =>
        exception.GetType() == typeof(IOException) && (exception.HResult is 11 or 35 || exception.HResult == unchecked((int)0x80070020));

    private sealed class Holder(SemaphoreSlim gate, FileStream file) : IDisposable
    {
        public void Dispose()
        {
            file.Dispose();
            gate.Release();
        }
    }
}
