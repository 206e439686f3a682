using System.Diagnostics;
using Grpc.Core;
using LlmPipeline.Datasets.V1;
using LlmPipeline.ServiceDefaults;

namespace LlmPipeline.Trainer.Tests.Coordinator;

/// <summary>A Preprocessor whose dataset is ready as soon as <see cref="Release"/> says so.</summary>
internal sealed class FakePreprocessor : DatasetService.DatasetServiceBase
{
    private TaskCompletionSource? _heldCreation;
    private volatile TaskCompletionSource _released = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public FakePreprocessor() => Release();

    /// <summary>Calls of CreateDataset.</summary>
    public int CreateCount { get; private set; }

    /// <summary>Error of CreateDataset, if any.</summary>
    public RpcException? Refusal { get; set; }

    /// <summary>Failure of the dataset, if any.</summary>
    public DatasetError? Failure { get; set; }

    /// <summary>Calls that answer UNAVAILABLE before one works.</summary>
    public int UnavailableCalls { get; set; }

    public long ValidationTokens { get; set; } = 100;

    public long TrainTokens { get; set; } = 1000;

    /// <summary>Classes of the documents, if any.</summary>
    public IReadOnlyList<string> Labels { get; set; } = [];

    /// <summary>Trace ids of the calls.</summary>
    public List<string> TraceIds { get; } = [];

    public void Hold() => _released = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public void Release() => _released.TrySetResult();

    public override async Task<CreateDatasetResponse> CreateDataset(CreateDatasetRequest request, ServerCallContext context)
    {
        lock (TraceIds)
        {
            TraceIds.Add(Activity.Current?.TraceId.ToHexString() ?? "");
        }

        if (UnavailableCalls > 0)
        {
            UnavailableCalls--;
            throw new RpcException(new Status(StatusCode.Unavailable, "no"));
        }

        CreateCount++;
        if (Interlocked.Exchange(ref _heldCreation, null) is { } held)
        {
            held.SetResult();
            await Task.Delay(Timeout.Infinite, context.CancellationToken);
        }

        return Refusal is null ? new CreateDatasetResponse { Dataset = Dataset(Datasets.V1.Dataset.Types.State.Queued, 0) } : throw Refusal;
    }

    /// <summary>The next call that makes a dataset is not answered; completes when it has come.</summary>
    public Task HoldNextCreation()
    {
        _heldCreation = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        return _heldCreation.Task;
    }

    public override Task<GetDatasetResponse> GetDataset(GetDatasetRequest request, ServerCallContext context) => request.Name == "datasets/some-data"
        ? Task.FromResult(new GetDatasetResponse { Dataset = Dataset(Datasets.V1.Dataset.Types.State.Ready, 1) })
        : throw RpcErrors.Create(StatusCode.NotFound, ErrorReasons.NotFound, $"'{request.Name}' does not exist.");

    /// <summary>Datasets that were cancelled.</summary>
    public List<string> Cancelled { get; } = [];

    public override Task<CancelDatasetResponse> CancelDataset(CancelDatasetRequest request, ServerCallContext context)
    {
        Cancelled.Add(request.Name);
        return Task.FromResult(new CancelDatasetResponse { Dataset = Dataset(Datasets.V1.Dataset.Types.State.Cancelled, 0.25) });
    }

    public override async Task WatchDataset(WatchDatasetRequest request, IServerStreamWriter<WatchDatasetResponse> responseStream, ServerCallContext context)
    {
        await responseStream.WriteAsync(new WatchDatasetResponse { Sequence = 1, Dataset = Dataset(Datasets.V1.Dataset.Types.State.Reading, 0.25) });
        await _released.Task.WaitAsync(context.CancellationToken);
        await responseStream.WriteAsync(new WatchDatasetResponse
        {
            Sequence = 2,
            Dataset = Dataset(Failure is null ? Datasets.V1.Dataset.Types.State.Ready : Datasets.V1.Dataset.Types.State.Failed, 1),
        });
    }

    private Dataset Dataset(Dataset.Types.State state, double fraction) => new()
    {
        Name = "datasets/some-data",
        State = state,
        Spec = new DatasetSpec { Sources = { "/text/a.txt" }, TextField = "text" },
        Progress = new DatasetProgress { Fraction = fraction },
        Tokenizer = "tokenizers/some",
        VocabularySize = 300,
        Error = state == Datasets.V1.Dataset.Types.State.Failed ? Failure : null,
        Labels = { Labels },
        Splits = { new SplitStatistics { Split = "train", TokenCount = TrainTokens }, new SplitStatistics { Split = "validation", TokenCount = ValidationTokens } },
    };
}
