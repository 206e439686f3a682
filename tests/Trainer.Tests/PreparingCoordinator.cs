using System.Threading.Channels;
using Grpc.Core;
using LlmPipeline.Workers.V1;

namespace LlmPipeline.Trainer.Tests;

/// <summary>A coordinator that lets every worker prepare for a run, and none take part.</summary>
internal sealed class PreparingCoordinator : CoordinatorService.CoordinatorServiceBase
{
    private readonly Channel<HeartbeatRequest> _heartbeats = Channel.CreateUnbounded<HeartbeatRequest>();
    private volatile int _epoch = 1;

    /// <summary>The epoch that others are in.</summary>
    public int Epoch
    {
        get => _epoch;
        set => _epoch = value;
    }

    /// <summary>The next heartbeat that is as wanted.</summary>
    public async Task<HeartbeatRequest> HeartbeatAsync(Predicate<HeartbeatRequest> isWanted)
    {
        using var timeout = new CancellationTokenSource(TinyRun.Timeout);
        while (true)
        {
            if (await _heartbeats.Reader.ReadAsync(timeout.Token) is var heartbeat && isWanted(heartbeat))
            {
                return heartbeat;
            }
        }
    }

    public override async Task<HeartbeatResponse> Heartbeat(HeartbeatRequest request, ServerCallContext context)
    {
        _heartbeats.Writer.TryWrite(request);
        if (request.SeenAssignment == Epoch)
        {
            await Task.Delay(50, context.CancellationToken);
        }

        var plan = new EpochPlan { Epoch = Epoch, Run = "runs/tiny", Attempt = 3, Spec = TinyRun.Spec(), Dataset = "datasets/tiny", Rank = -1 };
        return new HeartbeatResponse { Assignment = new Assignment { Version = plan.Epoch, Epoch = plan } };
    }
}
