using LlmPipeline.Gateway.Catalogue;
using LlmPipeline.Gateway.Telemetry;

namespace LlmPipeline.Gateway.Engine;

/// <summary>
/// One answer in the making. The engine's thread computes it, step by step, the caller reads it. Disposing it stops the computation
/// within a step.
/// </summary>
/// <param name="model">A reference that this object releases at the end.</param>
/// <param name="deadline">When it is to be done.</param>
/// <param name="telemetry">Its span and numbers.</param>
/// <param name="onEnd">Called once, when the model is not needed any more.</param>
/// <param name="cancellationToken">The caller's.</param>
internal abstract class Answer(LoadedModel model, DateTimeOffset deadline, AnswerTelemetry telemetry, Action onEnd, CancellationToken cancellationToken) : IAsyncDisposable
{
    private const int Waiting = 0;
    private const int Running = 1;
    private const int Ended = 2;

    private int _state = Waiting;
    private volatile bool _left;

    public ModelVersion Version => model.Version;

    /// <summary>Time since the request came.</summary>
    public TimeSpan Elapsed => telemetry.Elapsed;

    /// <summary>Tokens read and written so far.</summary>
    protected abstract (int Input, int Output) Tokens { get; }

    /// <summary>How far it has come, and what to do about it, for an error: "after 3 tokens. Ask for fewer tokens".</summary>
    protected abstract string Progress { get; }

    private bool IsLeft => _left || cancellationToken.IsCancellationRequested;

    /// <summary>Engine only: whether it may still wait for its turn; ends it when the caller has left or the time is up.</summary>
    public bool MayWait(DateTimeOffset now)
    {
        if (IsLeft || now >= deadline)
        {
            Stop(now);
        }

        return Volatile.Read(ref _state) == Waiting;
    }

    /// <summary>Engine only: its turn begins; false when it has ended in the meantime.</summary>
    public bool TryBegin() => Interlocked.CompareExchange(ref _state, Running, Waiting) == Waiting;

    /// <summary>Engine only: computes one step; false when the answer has ended.</summary>
    public bool Step(DateTimeOffset now)
    {
        if (IsLeft || now >= deadline)
        {
            Stop(now);
            return false;
        }

        try
        {
            if (Compute() is { } outcome)
            {
                End(outcome, null);
                return false;
            }

            return true;
        }
        catch (Exception exception)
        {
            End("error", exception);
            return false;
        }
    }

    /// <summary>Engine only: ends it because the process stops.</summary>
    public void Abandon() => End("error", new GatewayException(GatewayErrorKind.Unavailable, "The Gateway is shutting down. Try again in a moment."));

    public ValueTask DisposeAsync()
    {
        _left = true;

        // One that still waits leaves at once; one that runs is ended by the engine before its next step.
        if (Interlocked.CompareExchange(ref _state, Ended, Waiting) == Waiting)
        {
            Release("cancelled", null);
        }

        return ValueTask.CompletedTask;
    }

    /// <summary>Computes one step; returns how the answer ended, null while it goes on.</summary>
    protected abstract string? Compute();

    /// <summary>Lets go of what belongs to the model, before the model itself.</summary>
    protected virtual void Free()
    {
    }

    /// <summary>Nothing comes after this: the reader learns of it.</summary>
    protected abstract void Close(Exception? exception);

    private void Stop(DateTimeOffset now)
    {
        if (now >= deadline && !IsLeft)
        {
            End("timeout", new GatewayException(GatewayErrorKind.TimedOut, $"The time for this request was up {Progress}, or allow more time."));
        }
        else
        {
            End("cancelled", new OperationCanceledException());
        }
    }

    private void End(string outcome, Exception? exception)
    {
        if (Interlocked.Exchange(ref _state, Ended) != Ended)
        {
            Release(outcome, exception);
        }
    }

    private void Release(string outcome, Exception? exception)
    {
        var (input, output) = Tokens;
        Free();
        model.Release();
        onEnd();
        telemetry.End(outcome, input, output, exception);
        Close(exception);
    }
}
