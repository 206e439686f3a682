using System.Runtime.CompilerServices;
using Grpc.Core;

namespace LlmPipeline.Cli.Following;

/// <summary>Watch streams that outlive their connection.</summary>
internal static class Watch
{
    // The server writes every 15 seconds at least.
    private static readonly TimeSpan Silence = TimeSpan.FromSeconds(45);

    /// <summary>Reads a stream of changes up to a terminal one. When the connection breaks, it goes on after the last sequence number.</summary>
    /// <param name="open">Calls the server: watch after this sequence number.</param>
    /// <param name="sequence">Sequence number of a message.</param>
    /// <param name="isTerminal">Whether the stream ends after a message.</param>
    /// <param name="patience">How long to try to connect again.</param>
    /// <param name="connectionLost">Is told when the connection breaks.</param>
    /// <param name="cancellationToken">Ends the watch.</param>
    public static async IAsyncEnumerable<T> ReadAsync<T>(
        Func<long, CancellationToken, AsyncServerStreamingCall<T>> open,
        Func<T, long> sequence,
        Func<T, bool> isTerminal,
        TimeSpan patience,
        Action connectionLost,
        [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var after = 0L;
        long? lostSince = null;
        for (var attempt = 0; ; attempt++)
        {
            using var silence = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
            using var call = open(after, silence.Token);
            while (await NextAsync(call, silence) is { } message)
            {
                (attempt, lostSince) = (0, null);
                after = Math.Max(after, sequence(message));
                yield return message;
                if (isTerminal(message))
                {
                    yield break;
                }
            }

            if (lostSince is null)
            {
                lostSince = Environment.TickCount64;
                connectionLost();
            }

            await Task.Delay(TimeSpan.FromMilliseconds(Math.Min(200 << Math.Min(attempt, 5), 5000)), cancellationToken);
        }

        async Task<T?> NextAsync(AsyncServerStreamingCall<T> call, CancellationTokenSource silence)
        {
            silence.CancelAfter(Silence);
            try
            {
                return await call.ResponseStream.MoveNext(silence.Token) ? call.ResponseStream.Current : default;
            }
            catch (Exception exception) when (!cancellationToken.IsCancellationRequested && IsConnectionLost(exception))
            {
                if (lostSince is { } since && Environment.TickCount64 - since > patience.TotalMilliseconds)
                {
                    throw;
                }

                return default;
            }
        }
    }

    // A stream that was silent or cut off is cancelled; a status with a cause was made on this side of the connection.
    private static bool IsConnectionLost(Exception exception) => exception is OperationCanceledException
        or RpcException { StatusCode: StatusCode.Unavailable or StatusCode.Cancelled or StatusCode.DeadlineExceeded }
        or RpcException { StatusCode: StatusCode.Internal or StatusCode.Unknown, Status.DebugException: not null };
}
