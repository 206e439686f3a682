using System.Collections.Concurrent;
using System.Security.Cryptography;
using System.Text;

namespace LlmPipeline.Storage;

/// <summary>
/// Mutual exclusion by name between the threads of all processes that use a folder, by locks on files (<see cref="FileLock"/>). A name
/// has one of 1,024 files, so that a process which is stopped while it holds one holds up hardly any other name.
/// </summary>
internal sealed class FolderLocks(string folder, TimeProvider time)
{
    /// <summary>Far longer than any holder needs, which is about a millisecond.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(20);

    /// <summary>A thread waits for the others of its process here, in their order.</summary>
    private static readonly ConcurrentDictionary<string, SemaphoreSlim> Gates = new(StringComparer.Ordinal);

    /// <summary>Waits for the lock of a name; disposing the result frees it, and so does the death of the process.</summary>
    /// <exception cref="IOException">Another process holds it and does not go on.</exception>
    public async Task<IDisposable> EnterAsync(string name, CancellationToken cancellationToken)
    {
        var digest = SHA256.HashData(Encoding.UTF8.GetBytes(name));
        var path = Path.Combine(folder, $"{((digest[0] & 3) << 8) | digest[1]:x3}");
        var gate = Gates.GetOrAdd(path, _ => new SemaphoreSlim(1));
        await gate.WaitAsync(cancellationToken);
        try
        {
            var start = time.GetTimestamp();
            for (var attempt = 0; ; attempt++)
            {
                if (FileLock.TryTake(path) is { } file)
                {
                    return new Holder(gate, file);
                }

                if (time.GetElapsedTime(start) > Patience)
                {
                    throw new IOException(
                        $"'{name}' cannot be written: another process has held '{path}' for {Patience.TotalSeconds} s. It is stopped or hangs; `fuser {path}` names it, and its end frees the file.");
                }

                // .NET has no blocking file lock.
                await Task.Delay(TimeSpan.FromMilliseconds(Math.Min(1 + attempt, 10)), cancellationToken);
            }
        }
        catch
        {
            gate.Release();
            throw;
        }
    }

    private sealed class Holder(SemaphoreSlim gate, FileStream file) : IDisposable
    {
        public void Dispose()
        {
            file.Dispose();
            gate.Release();
        }
    }
}
