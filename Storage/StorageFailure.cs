namespace LlmPipeline.Storage;

/// <summary>Tells that a store does not do what it is asked for now, and may do it later.</summary>
public static class StorageFailure
{
    /// <summary>Whether an exception says so.</summary>
    public static bool Is(Exception exception) => exception is IOException or UnauthorizedAccessException or Azure.RequestFailedException;
}
