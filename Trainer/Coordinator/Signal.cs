namespace LlmPipeline.Trainer.Coordinator;

/// <summary>Wakes whoever waits. Take <see cref="Next"/>, look at the state, then await it: nothing is missed.</summary>
internal sealed class Signal
{
    private volatile TaskCompletionSource _next = New();

    /// <summary>Completes with the next <see cref="Set"/>.</summary>
    public Task Next => _next.Task;

    /// <summary>Wakes all who wait.</summary>
    public void Set() => Interlocked.Exchange(ref _next, New()).TrySetResult();

    private static TaskCompletionSource New() => new(TaskCreationOptions.RunContinuationsAsynchronously);
}
