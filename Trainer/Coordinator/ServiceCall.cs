using Google.Rpc;
using Grpc.Core;
using LlmPipeline.ServiceDefaults;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary>
/// Calls another service with patience: while it is out of reach, the call is made again, ever more slowly; the run gets an
/// event for it, and fails when it has taken too long. An error that the service itself gives fails the run at once.
/// </summary>
/// <param name="service">Its name, for people.</param>
/// <param name="tell">Adds an event to the run.</param>
/// <param name="patience">How long it may be out of reach.</param>
/// <param name="time">Clock.</param>
internal sealed class ServiceCall(string service, Func<string, string, Task> tell, TimeSpan patience, TimeProvider time)
{
    private static readonly TimeSpan MinPause = TimeSpan.FromSeconds(0.25);
    private static readonly TimeSpan MaxPause = TimeSpan.FromSeconds(5);

    private long? _awaySince;
    private TimeSpan _pause = MinPause;

    /// <summary>Longest time for a call that is not a stream.</summary>
    public static DateTime Deadline => DateTime.UtcNow.AddSeconds(60);

    /// <summary>Makes a call until it succeeds.</summary>
    /// <exception cref="StageFailedException">The service refused it, or was out of reach for too long.</exception>
    public async Task<T> RunAsync<T>(Func<CancellationToken, Task<T>> call, CancellationToken cancellationToken)
    {
        while (true)
        {
            try
            {
                var result = await call(cancellationToken);
                await AnsweredAsync();
                return result;
            }
            catch (RpcException exception)
            {
                cancellationToken.ThrowIfCancellationRequested();
                if (!IsPassing(exception))
                {
                    throw new StageFailedException(ReasonOf(exception) ?? ErrorReasons.Internal, $"{service}: {exception.Status.Detail}", exception);
                }

                await PauseAsync(exception, cancellationToken);
            }
        }
    }

    /// <summary>Says that the service answered, for streams.</summary>
    public async Task AnsweredAsync()
    {
        if (_awaySince is not null)
        {
            _awaySince = null;
            _pause = MinPause;
            await tell(RunEvents.ServiceAnswers, $"{service} answers again.");
        }
    }

    private async Task PauseAsync(RpcException exception, CancellationToken cancellationToken)
    {
        if (_awaySince is null)
        {
            _awaySince = time.GetTimestamp();
            await tell(RunEvents.ServiceUnreachable,
                $"{service} does not answer ({exception.StatusCode}); trying again for {patience.TotalSeconds:0} s.");
        }

        if (time.GetElapsedTime(_awaySince.Value) >= patience)
        {
            throw new StageFailedException(ErrorReasons.Unavailable,
                $"{service} did not answer for {patience.TotalSeconds:0} s ({exception.StatusCode}: {exception.Status.Detail}). Start it, then resume the run.", exception);
        }

        await Task.Delay(_pause, time, cancellationToken);
        _pause = _pause * 2 < MaxPause ? _pause * 2 : MaxPause;
    }

    // What a service says itself carries a reason; what breaks on the way does not.
    private static bool IsPassing(RpcException exception) => exception.StatusCode switch
    {
        StatusCode.Unavailable or StatusCode.DeadlineExceeded or StatusCode.Cancelled or StatusCode.Aborted or StatusCode.ResourceExhausted => true,
        StatusCode.Internal or StatusCode.Unknown => ReasonOf(exception) is null,
        _ => false,
    };

    private static string? ReasonOf(RpcException exception) => exception.GetRpcStatus()?.GetDetail<ErrorInfo>()?.Reason;
}
