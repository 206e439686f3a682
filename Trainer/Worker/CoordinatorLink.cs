using Grpc.Core;
using LlmPipeline.Workers.V1;

namespace LlmPipeline.Trainer.Worker;

/// <summary>Who this worker is.</summary>
/// <param name="WorkerId">Unique to the process.</param>
/// <param name="Address">What peers dial.</param>
/// <param name="Device">Where it computes.</param>
/// <param name="Fingerprint">What computes.</param>
/// <param name="MemoryKills">Processes killed for memory in this one's control group before it was started; null when it is not known.</param>
internal sealed record WorkerIdentity(string WorkerId, string Address, string Device, string Fingerprint, long? MemoryKills = null);

/// <summary>Sends heartbeats as long polls, for ever, whatever the compute thread is doing and whether or not the coordinator answers.</summary>
internal sealed partial class CoordinatorLink(
    CoordinatorService.CoordinatorServiceClient client, WorkerIdentity identity, WorkerControl control, int maxWaitMilliseconds, ILogger logger)
{
    private static readonly TimeSpan MinBackoff = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan MaxBackoff = TimeSpan.FromSeconds(1);

    /// <summary>Runs until cancelled.</summary>
    public async Task RunAsync(CancellationToken cancellationToken)
    {
        var backoff = MinBackoff;
        var away = false;
        while (!cancellationToken.IsCancellationRequested)
        {
            try
            {
                await BeatAsync(maxWaitMilliseconds, cancellationToken);
                if (away)
                {
                    LogBack();
                    away = false;
                }

                backoff = MinBackoff;
            }
            catch (RpcException) when (cancellationToken.IsCancellationRequested)
            {
                return;
            }
            catch (RpcException exception) when (exception.StatusCode != StatusCode.Cancelled)
            {
                if (!away)
                {
                    LogAway(exception.StatusCode, exception.Status.Detail);
                    away = true;
                }

                await Task.Delay(backoff * (0.5 + Random.Shared.NextDouble()), cancellationToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                backoff = backoff * 2 < MaxBackoff ? backoff * 2 : MaxBackoff;
            }
            catch (RpcException)
            {
                // Cut short for something urgent: the next heartbeat says it.
            }
        }
    }

    /// <summary>Says once, without waiting, how things are; used when the process exits.</summary>
    public async Task SayAsync()
    {
        using var timeout = new CancellationTokenSource(TimeSpan.FromSeconds(2));
        try
        {
            await BeatAsync(0, timeout.Token);
        }
        catch (RpcException)
        {
            // The coordinator will notice the silence.
        }
    }

    private async Task BeatAsync(int wait, CancellationToken cancellationToken)
    {
        var request = new HeartbeatRequest
        {
            WorkerId = identity.WorkerId,
            Address = identity.Address,
            Device = identity.Device,
            Fingerprint = identity.Fingerprint,
            Memory = ControlGroup.Memory(),
        };
        if (identity.MemoryKills is { } kills)
        {
            request.MemoryKills = kills;
        }

        control.Fill(request);
        request.MaxWaitMilliseconds = request.Leaving || request.Failure is not null ? Math.Min(wait, 200) : wait;
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        using var call = client.HeartbeatAsync(request, deadline: DateTime.UtcNow.AddMilliseconds(wait + 5000), cancellationToken: stop.Token);
        var answer = call.ResponseAsync;
        if (await Task.WhenAny(answer, control.Urgent) != answer)
        {
            await stop.CancelAsync();
        }

        if (!control.Receive((await answer).Assignment))
        {
            throw new RpcException(new Status(StatusCode.FailedPrecondition,
                "The answer is from a coordinator that another one has taken over from. If its storage was replaced, restart the worker."));
        }
    }

    [LoggerMessage(2510, LogLevel.Warning, "The coordinator does not answer ({Status}: {Detail}); the worker keeps its state and asks again until it does.")]
    private partial void LogAway(StatusCode status, string detail);

    [LoggerMessage(2511, LogLevel.Information, "The coordinator answers again.")]
    private partial void LogBack();
}
