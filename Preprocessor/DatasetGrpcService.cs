using Grpc.Core;
using LlmPipeline.Datasets.V1;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;

namespace LlmPipeline.Preprocessor;

/// <summary>The dataset calls.</summary>
internal sealed class DatasetGrpcService(DatasetCatalog catalog, IBlobStore store) : DatasetService.DatasetServiceBase
{
    public override async Task<CreateDatasetResponse> CreateDataset(CreateDatasetRequest request, ServerCallContext context) =>
        new() { Dataset = await catalog.CreateAsync(request.DatasetId, request.Spec, context.CancellationToken) };

    public override async Task<GetDatasetResponse> GetDataset(GetDatasetRequest request, ServerCallContext context) =>
        new() { Dataset = catalog.Records.TryGet(await IdOfAsync(request.Name, context))!.Value };

    public override async Task<ListDatasetsResponse> ListDatasets(ListDatasetsRequest request, ServerCallContext context)
    {
        await catalog.ReloadAsync(context.CancellationToken);
        var (datasets, next) = catalog.Records.List(request.PageSize, request.PageToken);
        return new ListDatasetsResponse { Datasets = { datasets }, NextPageToken = next };
    }

    public override async Task WatchDataset(WatchDatasetRequest request, IServerStreamWriter<WatchDatasetResponse> responseStream, ServerCallContext context)
    {
        var id = await IdOfAsync(request.Name, context);
        await foreach (var version in catalog.Records.WatchAsync(id, request.AfterSequence, context.CancellationToken))
        {
            await responseStream.WriteAsync(new WatchDatasetResponse { Sequence = version.Sequence, Dataset = version.Value }, context.CancellationToken);
        }
    }

    public override async Task<CancelDatasetResponse> CancelDataset(CancelDatasetRequest request, ServerCallContext context) =>
        new() { Dataset = await catalog.CancelAsync(await IdOfAsync(request.Name, context), context.CancellationToken) };

    public override async Task<GetDataCardResponse> GetDataCard(GetDataCardRequest request, ServerCallContext context)
    {
        var dataset = catalog.Records.TryGet(await IdOfAsync(request.Name, context))!.Value;
        var card = await StoredDataCards.ReadAsync(store, dataset, context.CancellationToken);
        return new GetDataCardResponse { Markdown = card.ToMarkdown(), Json = card.ToJson() };
    }

    // The id of a dataset that exists, with its record as it is now, whichever replica wrote it.
    private async Task<string> IdOfAsync(string name, ServerCallContext context)
    {
        var id = ResourceName.IdOf(name, "datasets");
        if (await catalog.Records.RefreshAsync(id, context.CancellationToken) is null)
        {
            RpcErrors.ThrowNotFound(name);
        }

        return id;
    }
}
