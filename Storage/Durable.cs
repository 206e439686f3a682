using System.ComponentModel;
using System.Runtime.InteropServices;

namespace LlmPipeline.Storage;

/// <summary>Directory entries that outlive a power cut. Where the system has no such call (Windows), nothing is done.</summary>
internal static partial class Durable
{
    private const int NoEntry = 2;

    /// <summary>Flushes the entries of a directory to the disk.</summary>
    /// <exception cref="DirectoryNotFoundException">There is none.</exception>
    public static void FlushDirectory(string path)
    {
        if (OperatingSystem.IsWindows())
        {
            return;
        }

        var descriptor = Open(path, 0);
        if (descriptor < 0)
        {
            var error = Marshal.GetLastPInvokeError();
            var message = $"Cannot open the folder '{path}': {new Win32Exception(error).Message}.";
            throw error == NoEntry ? new DirectoryNotFoundException(message) : new IOException(message);
        }

        try
        {
            if (Synchronize(descriptor) != 0)
            {
                throw new IOException($"Cannot flush the folder '{path}': {new Win32Exception(Marshal.GetLastPInvokeError()).Message}.");
            }
        }
        finally
        {
            _ = Close(descriptor);
        }
    }

    /// <summary>Makes a directory with its parents, and flushes the entry of each new one.</summary>
    public static void CreateDirectory(string path)
    {
        if (!Directory.Exists(path))
        {
            var parent = Path.GetDirectoryName(path)!;
            CreateDirectory(parent);
            Directory.CreateDirectory(path);
            FlushDirectory(parent);
        }
    }

    [LibraryImport("libc", EntryPoint = "open", StringMarshalling = StringMarshalling.Utf8, SetLastError = true)]
    private static partial int Open(string path, int flags);

    [LibraryImport("libc", EntryPoint = "fsync", SetLastError = true)]
    private static partial int Synchronize(int descriptor);

    [LibraryImport("libc", EntryPoint = "close", SetLastError = true)]
    private static partial int Close(int descriptor);
}
