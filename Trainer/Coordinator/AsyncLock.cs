namespace LlmPipeline.Trainer.Coordinator;

/// <summary>Lets one caller in at a time; the others wait without a thread.</summary>
internal sealed class AsyncLock
{
    // Its wait handle is never made, so there is nothing to dispose.
    private SemaphoreSlim Semaphore { get; } = new(1);

    /// <summary>Enters; disposing the result leaves.</summary>
    public async Task<IDisposable> EnterAsync(CancellationToken cancellationToken)
    {
        await Semaphore.WaitAsync(cancellationToken);
        return new Holder(Semaphore);
    }

    private sealed class Holder(SemaphoreSlim semaphore) : IDisposable
    {
        public void Dispose() => semaphore.Release();
    }
}
