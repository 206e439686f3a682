using Grpc.Core;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Workers.V1;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary>The calls of workers.</summary>
internal sealed class CoordinatorGrpcService(RunCatalog runs, EpochManager epochs, TrainingStage training, IHostApplicationLifetime lifetime)
    : CoordinatorService.CoordinatorServiceBase
{
    private const int MaxWaitMilliseconds = 30_000;
    private const int MaxIdLength = 200;

    public override async Task<HeartbeatResponse> Heartbeat(HeartbeatRequest request, ServerCallContext context)
    {
        if (!runs.IsOpen)
        {
            throw RunCatalog.Standby();
        }

        if (request.WorkerId.Length is 0 or > MaxIdLength)
        {
            RpcErrors.ThrowInvalidArgument(ErrorReasons.InvalidSpec, $"worker_id has {request.WorkerId.Length} characters; it needs 1 to {MaxIdLength}.");
        }

        if (!Uri.TryCreate(request.Address, UriKind.Absolute, out var address) || address.Scheme is not ("http" or "https"))
        {
            RpcErrors.ThrowInvalidArgument(ErrorReasons.InvalidSpec, "address is not an http URL; give the one at which peers reach the worker.");
        }

        using var ticket = epochs.Enter(request);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(context.CancellationToken, lifetime.ApplicationStopping);
        var wait = TimeSpan.FromMilliseconds(Math.Clamp(request.MaxWaitMilliseconds, 0, MaxWaitMilliseconds));
        return new HeartbeatResponse { Assignment = await ticket.WaitAsync(request.SeenAssignment, wait, stop.Token) };
    }

    public override async Task<ReportProgressResponse> ReportProgress(ReportProgressRequest request, ServerCallContext context)
    {
        if (!runs.IsOpen)
        {
            throw RunCatalog.Standby();
        }

        await training.ReportAsync(request, context.CancellationToken);
        return new ReportProgressResponse();
    }
}
