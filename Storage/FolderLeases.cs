using System.Globalization;

namespace LlmPipeline.Storage;

/// <summary>
/// Leases of a folder store: a file per name holds the lease's id, the time at which it ends by itself, and the process that holds it.
/// Where that process is known to have ended (killed, on this machine), so has the lease.
/// </summary>
internal sealed class FolderLeases(string folder, FolderLocks locks, TimeProvider time)
{
    public async Task<IBlobLease?> TryAcquireAsync(string name, TimeSpan duration, CancellationToken cancellationToken)
    {
        LeaseDuration.Require(duration);
        // '~' is in no name.
        var path = Path.Combine(folder, name.Replace('/', '~'));
        using (await locks.EnterAsync(name, cancellationToken))
        {
            if (Read(path) is { } holder && holder.Ends > time.GetUtcNow() && !LeaseHolder.HasEnded(holder.Process))
            {
                return null;
            }

            var lease = new Lease(this, name, path, Guid.NewGuid().ToString("N"), duration);
            Write(path, lease.Id, duration);
            return lease;
        }
    }

    private static (string Id, DateTimeOffset Ends, string Process)? Read(string path)
    {
        try
        {
            return File.ReadAllText(path).Split(' ') is [var id, var ticks, var process] && long.TryParse(ticks, NumberStyles.None, CultureInfo.InvariantCulture, out var ends)
                ? (id, new DateTimeOffset(ends, TimeSpan.Zero), process)
                : null;
        }
        catch (Exception exception) when (exception is FileNotFoundException or DirectoryNotFoundException)
        {
            return null;
        }
    }

    private void Write(string path, string id, TimeSpan duration)
    {
        Directory.CreateDirectory(folder);
        var next = path + "~new";
        File.WriteAllText(next, string.Create(CultureInfo.InvariantCulture, $"{id} {(time.GetUtcNow() + duration).UtcTicks} {LeaseHolder.Own}"));
        File.Move(next, path, overwrite: true);
    }

    private sealed class Lease(FolderLeases leases, string name, string path, string id, TimeSpan duration) : IBlobLease
    {
        public string Id => id;

        // An ended lease that nobody took since is renewed, as Azure does.
        public async Task<bool> RenewAsync(CancellationToken cancellationToken = default)
        {
            using (await leases.Enter(name, cancellationToken))
            {
                if (Read(path)?.Id != id)
                {
                    return false;
                }

                leases.Write(path, id, duration);
                return true;
            }
        }

        public async ValueTask DisposeAsync()
        {
            using (await leases.Enter(name, CancellationToken.None))
            {
                if (Read(path)?.Id == id)
                {
                    File.Delete(path);
                }
            }
        }
    }

    private Task<IDisposable> Enter(string name, CancellationToken cancellationToken) => locks.EnterAsync(name, cancellationToken);
}

/// <summary>What Azure allows, for every store.</summary>
internal static class LeaseDuration
{
    public static void Require(TimeSpan duration)
    {
        if (duration < TimeSpan.FromSeconds(15) || duration > TimeSpan.FromSeconds(60))
        {
            throw new ArgumentOutOfRangeException(nameof(duration), duration, "A lease lasts 15 to 60 seconds.");
        }
    }
}
