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

    /// <summary>Creates a dataset, or finds the one that is there; one that failed, or lost files since, is made again.</summary>
    /// <exception cref="RpcException">The spec is not valid, or the id is taken by another spec.</exception>
    public async Task<Dataset> CreateAsync(string id, DatasetSpec? spec, CancellationToken cancellationToken)
    {
        if (id.Length > 0)
        {
            ResourceName.RequireId(id, "dataset_id");
        }

        var resolved = await resolver.ResolveAsync(spec, cancellationToken);
        var wanted = New(id, resolved);
        id = ResourceName.IdOf(wanted.Name, "datasets");
        var (created, record) = await Records.TryCreateAsync(id, wanted, cancellationToken);
        if (created)
        {
            DatasetCreated(wanted.Name, resolved.Files.Count);
            Enqueue(id);
            return record.Value;
        }

        var present = record.Value;
        var isLost = present.State == Dataset.Types.State.Ready && present.Fingerprint == wanted.Fingerprint
            && await CommittedDataset.TryFindAsync(store, present, cancellationToken) is null;
        if (isLost || present.State == Dataset.Types.State.Failed)
        {
            present = await RestartAsync(id, present, wanted, cancellationToken);
        }

        return present.Fingerprint == wanted.Fingerprint ? present : throw RpcErrors.Create(
            StatusCode.AlreadyExists, ErrorReasons.AlreadyExists, present.Spec.Equals(wanted.Spec)
                ? $"'{present.Name}' was made before its source files changed. Choose another dataset_id, or leave it out."
                : $"'{present.Name}' was made from another spec. Choose another dataset_id, or leave it out.");
    }

    // Nothing happens when another call was faster.
    private async Task<Dataset> RestartAsync(string id, Dataset seen, Dataset wanted, CancellationToken cancellationToken)
    {
        var restarted = false;
        var record = await Records.UpdateAsync(id, dataset =>
        {
            restarted = dataset.State == seen.State && Equals(dataset.EndTime, seen.EndTime);
            if (restarted)
            {
                Reset(dataset, wanted);
            }

            return restarted;
        }, durable: true, cancellationToken);
        if (restarted)
        {
            Enqueue(id);
        }

        return record.Value;
    }

    /// <summary>Identifies a spec and its source files as they are now.</summary>
    public static string Fingerprint(DatasetSpec spec, IReadOnlyList<SourceFile> files)
    {
        var text = $"{DatasetProperties.CurrentFormat}\n{JsonFormatter.Default.Format(spec)}\n{SourceFile.Fingerprint(files)}";
        return Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text)));
    }

    private static Dataset New(string id, ResolvedSpec resolved)
    {
        var fingerprint = Fingerprint(resolved.Spec, resolved.Files);
        return new Dataset
        {
            Name = id.Length > 0 ? $"datasets/{id}" : $"datasets/d-{fingerprint[..16]}",
            Spec = resolved.Spec,
            State = Dataset.Types.State.Queued,
            Progress = new DatasetProgress(),
            CreateTime = Timestamp.FromDateTimeOffset(DateTimeOffset.UtcNow),
            Fingerprint = fingerprint,
            Traceparent = Activity.Current?.Id ?? "",
        };
    }

    private static void Reset(Dataset dataset, Dataset wanted)
    {
        dataset.Spec = wanted.Spec;
        dataset.Fingerprint = wanted.Fingerprint;
        dataset.Traceparent = wanted.Traceparent;
        dataset.State = Dataset.Types.State.Queued;
        dataset.Progress = new DatasetProgress();
        dataset.Tokenizer = "";
        dataset.VocabularySize = 0;
        dataset.Splits.Clear();
        dataset.Error = null;
        dataset.EndTime = null;
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
