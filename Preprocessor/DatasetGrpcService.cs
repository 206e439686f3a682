using Grpc.Core;
using LlmPipeline.Datasets.V1;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;

namespace LlmPipeline.Preprocessor;

/// <summary>The dataset calls.</summary>
internal sealed class DatasetGrpcService(DatasetCatalog catalog) : DatasetService.DatasetServiceBase
{
    public override async Task<CreateDatasetResponse> CreateDataset(CreateDatasetRequest request, ServerCallContext context) =>
        new() { Dataset = await catalog.CreateAsync(request.DatasetId, request.Spec, context.CancellationToken) };

    public override Task<GetDatasetResponse> GetDataset(GetDatasetRequest request, ServerCallContext context) =>
        Task.FromResult(new GetDatasetResponse { Dataset = catalog.Records.TryGet(IdOf(request.Name))!.Value });

    public override Task<ListDatasetsResponse> ListDatasets(ListDatasetsRequest request, ServerCallContext context)
    {
        var (datasets, next) = catalog.Records.List(request.PageSize, request.PageToken);
        return Task.FromResult(new ListDatasetsResponse { Datasets = { datasets }, NextPageToken = next });
    }

    public override async Task WatchDataset(WatchDatasetRequest request, IServerStreamWriter<WatchDatasetResponse> responseStream, ServerCallContext context)
    {
        await foreach (var version in catalog.Records.WatchAsync(IdOf(request.Name), request.AfterSequence, context.CancellationToken))
        {
            await responseStream.WriteAsync(new WatchDatasetResponse { Sequence = version.Sequence, Dataset = version.Value }, context.CancellationToken);
        }
    }

    // The id of a dataset that exists.
    private string IdOf(string name)
    {
        var id = ResourceName.IdOf(name, "datasets");
        if (catalog.Records.TryGet(id) is null)
        {
            RpcErrors.ThrowNotFound(name);
        }

        return id;
    }
}
