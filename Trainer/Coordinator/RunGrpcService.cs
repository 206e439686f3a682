using Grpc.Core;
using LlmPipeline.Runs.V1;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Trainer.Coordinator.Reports;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary>The calls on runs.</summary>
internal sealed class RunGrpcService(RunCatalog runs, StepMetricsCatalog metrics, RunReports reports) : RunService.RunServiceBase
{
    private const int DefaultSteps = 1000;
    private const int MaxSteps = 10_000;

    public override async Task<CreateRunResponse> CreateRun(CreateRunRequest request, ServerCallContext context) =>
        new() { Run = await runs.CreateAsync(request, context.CancellationToken) };

    public override Task<GetRunResponse> GetRun(GetRunRequest request, ServerCallContext context) =>
        Task.FromResult(new GetRunResponse { Run = runs.Find(request.Name).Run });

    public override Task<ListRunsResponse> ListRuns(ListRunsRequest request, ServerCallContext context)
    {
        var (page, next) = runs.Records.List(request.PageSize, request.PageToken);
        return Task.FromResult(new ListRunsResponse { Runs = { page }, NextPageToken = next });
    }

    public override async Task WatchRun(WatchRunRequest request, IServerStreamWriter<WatchRunResponse> responseStream, ServerCallContext context)
    {
        if (request.AfterSequence < 0)
        {
            RpcErrors.ThrowInvalidArgument(ErrorReasons.InvalidSpec, $"after_sequence is {request.AfterSequence}; use 0, or a sequence that an earlier watch gave.");
        }

        var (id, _) = runs.Find(request.Name);
        await foreach (var version in runs.Records.WatchAsync(id, request.AfterSequence, context.CancellationToken))
        {
            await responseStream.WriteAsync(new WatchRunResponse { Sequence = version.Sequence, Run = version.Value }, context.CancellationToken);
        }
    }

    public override async Task<ListStepMetricsResponse> ListStepMetrics(ListStepMetricsRequest request, ServerCallContext context)
    {
        if (request.AfterStep < 0 || request.PageSize < 0)
        {
            RpcErrors.ThrowInvalidArgument(ErrorReasons.InvalidSpec, $"after_step is {request.AfterStep} and page_size {request.PageSize}; both have to be 0 or more.");
        }

        var (_, run) = runs.Find(request.Name);
        var log = await metrics.GetAsync(run.Name, context.CancellationToken);
        return new ListStepMetricsResponse { Metrics = { log.After(request.AfterStep, request.PageSize == 0 ? DefaultSteps : Math.Min(request.PageSize, MaxSteps)) } };
    }

    public override async Task<GetRunReportResponse> GetRunReport(GetRunReportRequest request, ServerCallContext context) =>
        new() { Files = { await reports.MakeAsync(runs.Find(request.Name).Run, context.CancellationToken) } };

    public override async Task<CancelRunResponse> CancelRun(CancelRunRequest request, ServerCallContext context) =>
        new() { Run = await runs.CancelAsync(request.Name, context.CancellationToken) };

    public override async Task<ResumeRunResponse> ResumeRun(ResumeRunRequest request, ServerCallContext context) =>
        new() { Run = await runs.ResumeAsync(request.Name, request.Checkpoint, context.CancellationToken) };
}
