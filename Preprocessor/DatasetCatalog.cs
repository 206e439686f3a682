using System.Diagnostics;
using System.Security.Cryptography;
using System.Text;
using System.Threading.Channels;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using LlmPipeline.Datasets.V1;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;
using LlmPipeline.Text.Shards;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Preprocessor;

/// <summary>The records of datasets, and the queue of those that are to be made.</summary>
internal sealed partial class DatasetCatalog(IBlobStore store, DatasetSpecResolver resolver, PreprocessorTelemetry telemetry, ILogger<DatasetCatalog> logger)
{
    private readonly Channel<string> _queue = Channel.CreateUnbounded<string>();

    /// <summary>The records.</summary>
    public RecordStore<Dataset> Records { get; } = new(store, new RecordFormat<Dataset>
    {
        Collection = "datasets",
        File = "dataset.json",
        Serialize = new JsonFormatter(JsonFormatter.Settings.Default.WithIndentation()).Format,
        Parse = new JsonParser(JsonParser.Settings.Default.WithIgnoreUnknownFields(true)).Parse<Dataset>,
        Copy = d => d.Clone(),
        CreateTime = d => d.CreateTime?.ToDateTimeOffset() ?? default,
        State = d => d.State,
        IsTerminal = IsTerminal,
    });

    /// <summary>Ids of datasets to make, in the order in which they came.</summary>
    public ChannelReader<string> Queue => _queue.Reader;

    public static bool IsTerminal(Dataset dataset) => dataset.State is Dataset.Types.State.Ready or Dataset.Types.State.Failed;

    /// <summary>Reads the records back and queues what an earlier process left unfinished.</summary>
    public async Task LoadAsync(CancellationToken cancellationToken)
    {
        foreach (var (id, cause) in await Records.LoadAsync(cancellationToken))
        {
            RecordUnreadable(id, cause);
        }

        foreach (var dataset in Records.All.Select(r => r.Value).Where(d => !IsTerminal(d)).Reverse())
        {
            DatasetResumed(dataset.Name, dataset.State);
            Enqueue(ResourceName.IdOf(dataset.Name, "datasets"));
        }
    }

    /// <summary>Creates a dataset, or finds the one that is there; one that failed is queued again.</summary>
    /// <exception cref="RpcException">The spec is not valid, or the id is taken by another spec.</exception>
    public async Task<Dataset> CreateAsync(string id, DatasetSpec? spec, CancellationToken cancellationToken)
    {
        if (id.Length > 0)
        {
            ResourceName.RequireId(id, "dataset_id");
        }

        var resolved = await resolver.ResolveAsync(spec, cancellationToken);
        var fingerprint = Fingerprint(resolved);
        var isOwnId = id.Length > 0;
        id = isOwnId ? id : $"d-{fingerprint[..16]}";
        var (created, record) = await Records.TryCreateAsync(id, New(id, resolved.Spec, fingerprint), cancellationToken);
        if (created)
        {
            DatasetCreated(record.Value.Name, resolved.Files.Count);
            Enqueue(id);
            return record.Value;
        }

        if (record.Value.Fingerprint != fingerprint)
        {
            throw RpcErrors.Create(StatusCode.AlreadyExists, ErrorReasons.AlreadyExists, record.Value.Spec.Equals(resolved.Spec)
                ? $"'{record.Value.Name}' was made before its source files changed. Choose another dataset_id, or leave it out."
                : $"'{record.Value.Name}' was made from another spec. Choose another dataset_id, or leave it out.");
        }

        return record.Value.State == Dataset.Types.State.Failed ? await RetryAsync(id, cancellationToken) : record.Value;
    }

    private async Task<Dataset> RetryAsync(string id, CancellationToken cancellationToken)
    {
        var retried = false;
        var record = await Records.UpdateAsync(id, dataset =>
        {
            retried = dataset.State == Dataset.Types.State.Failed;
            if (retried)
            {
                dataset.State = Dataset.Types.State.Queued;
                dataset.Progress = new DatasetProgress();
                dataset.Error = null;
                dataset.EndTime = null;
                dataset.Traceparent = Activity.Current?.Id ?? "";
            }

            return retried;
        }, durable: true, cancellationToken);
        if (retried)
        {
            Enqueue(id);
        }

        return record.Value;
    }

    private static Dataset New(string id, DatasetSpec spec, string fingerprint) => new()
    {
        Name = $"datasets/{id}",
        Spec = spec,
        State = Dataset.Types.State.Queued,
        Progress = new DatasetProgress(),
        CreateTime = Timestamp.FromDateTimeOffset(DateTimeOffset.UtcNow),
        Fingerprint = fingerprint,
        Traceparent = Activity.Current?.Id ?? "",
    };

    private static string Fingerprint(ResolvedSpec resolved)
    {
        var text = $"{DatasetProperties.CurrentFormat}\n{JsonFormatter.Default.Format(resolved.Spec)}\n{SourceFile.Fingerprint(resolved.Files)}";
        return Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text)));
    }

    private void Enqueue(string id)
    {
        telemetry.QueueChanged(1);
        _queue.Writer.TryWrite(id);
    }

    [LoggerMessage(1001, LogLevel.Information, "Created {Dataset} from {Files} files")]
    private partial void DatasetCreated(string dataset, int files);

    [LoggerMessage(1002, LogLevel.Information, "{Dataset} was left {State} by an earlier process and is made anew")]
    private partial void DatasetResumed(string dataset, Dataset.Types.State state);

    [LoggerMessage(1003, LogLevel.Error, "The record of datasets/{Id} cannot be read and is left out")]
    private partial void RecordUnreadable(string id, Exception exception);
}
