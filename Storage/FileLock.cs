namespace LlmPipeline.Storage;

/// <summary>Advisory locks on files, which the kernel frees when a holder dies.</summary>
public static class FileLock
{
    /// <summary>Takes the lock of a file, which is made where there is none; disposing the result frees it.</summary>
    /// <returns>Null while another holds it.</returns>
    /// <exception cref="IOException">The file cannot be opened: its folder is gone, the disk is full.</exception>
    public static FileStream? TryTake(string path)
    {
        try
        {
            return new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, bufferSize: 0);
        }
        catch (IOException exception) when (IsHeldElsewhere(exception))
        {
            return null;
        }
    }

    // EWOULDBLOCK (Linux 11, BSD 35) or a Windows sharing violation; everything else is a fault of the folder.
    private static bool IsHeldElsewhere(IOException exception) =>
        exception.GetType() == typeof(IOException) && (exception.HResult is 11 or 35 || exception.HResult == unchecked((int)0x80070020));
}
