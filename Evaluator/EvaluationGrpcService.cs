using Grpc.Core;
using LlmPipeline.Evaluations.V1;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;

namespace LlmPipeline.Evaluator;

/// <summary>The evaluation calls.</summary>
internal sealed class EvaluationGrpcService(EvaluationCatalog catalog) : EvaluationService.EvaluationServiceBase
{
    public override async Task<CreateEvaluationResponse> CreateEvaluation(CreateEvaluationRequest request, ServerCallContext context)
    {
        var (evaluation, queued) = await catalog.CreateAsync(request.EvaluationId, request.Spec, context.CancellationToken);
        return new CreateEvaluationResponse { Evaluation = evaluation, Queued = queued };
    }

    public override Task<GetEvaluationResponse> GetEvaluation(GetEvaluationRequest request, ServerCallContext context) =>
        Task.FromResult(new GetEvaluationResponse { Evaluation = catalog.Records.TryGet(IdOf(request.Name))!.Value });

    public override Task<ListEvaluationsResponse> ListEvaluations(ListEvaluationsRequest request, ServerCallContext context)
    {
        var (evaluations, next) = catalog.Records.List(request.PageSize, request.PageToken);
        return Task.FromResult(new ListEvaluationsResponse { Evaluations = { evaluations }, NextPageToken = next });
    }

    public override async Task WatchEvaluation(WatchEvaluationRequest request, IServerStreamWriter<WatchEvaluationResponse> responseStream, ServerCallContext context)
    {
        await foreach (var version in catalog.Records.WatchAsync(IdOf(request.Name), request.AfterSequence, context.CancellationToken))
        {
            await responseStream.WriteAsync(new WatchEvaluationResponse { Sequence = version.Sequence, Evaluation = version.Value }, context.CancellationToken);
        }
    }

    public override async Task<CancelEvaluationResponse> CancelEvaluation(CancelEvaluationRequest request, ServerCallContext context) =>
        new() { Evaluation = await catalog.CancelAsync(IdOf(request.Name), context.CancellationToken) };

    // The id of an evaluation that exists.
    private string IdOf(string name)
    {
        var id = ResourceName.IdOf(name, "evaluations");
        if (catalog.Records.TryGet(id) is null)
        {
            RpcErrors.ThrowNotFound(name);
        }

        return id;
    }
}
