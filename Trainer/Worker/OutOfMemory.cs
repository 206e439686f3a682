namespace LlmPipeline.Trainer.Worker;

/// <summary>Tells that memory ran out from other failures; libtorch has no type for it.</summary>
internal static class OutOfMemory
{
    /// <summary>Whether an exception says so.</summary>
    public static bool Is(Exception exception) => exception is OutOfMemoryException
        || exception.Message.Contains("out of memory", StringComparison.OrdinalIgnoreCase)
        || exception.Message.Contains("not enough memory", StringComparison.OrdinalIgnoreCase)
        || exception.Message.Contains("can't allocate memory", StringComparison.OrdinalIgnoreCase)
        || exception.Message.Contains("STATUS_ALLOC_FAILED", StringComparison.Ordinal); // cuBLAS, cuDNN
}
