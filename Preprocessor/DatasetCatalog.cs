using System.Diagnostics;
using System.Security.Cryptography;
using System.Text;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using LlmPipeline.Datasets.V1;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;
using LlmPipeline.Text.Shards;
using LlmPipeline.Text.Sources;
using static LlmPipeline.Datasets.V1.Dataset.Types;

namespace LlmPipeline.Preprocessor;

/// <summary>The records of datasets, shared by all replicas: created, cancelled and read back by any, driven by the one that makes the dataset.</summary>
internal sealed partial class DatasetCatalog(
    IBlobStore store, DatasetSpecResolver resolver, UnfinishedDatasets unfinished, ILogger<DatasetCatalog> logger)
{
    private const int MaxAttempts = 10;

    /// <summary>The records.</summary>
    public RecordStore<Dataset> Records { get; } = new(store, new RecordFormat<Dataset>
    {
        Collection = "datasets",
        File = "dataset.json",
        Serialize = new JsonFormatter(JsonFormatter.Settings.Default.WithIndentation()).Format,
        Parse = StoredMessages.Parser.Parse<Dataset>,
        Copy = d => d.Clone(),
        CreateTime = d => d.CreateTime?.ToDateTimeOffset() ?? default,
        State = d => d.State,
        IsTerminal = IsTerminal,
    });

    public static bool IsTerminal(Dataset dataset) => dataset.State is State.Ready or State.Failed or State.Cancelled;

    /// <summary>Reads the records back, and lists those that an earlier process left unfinished.</summary>
    public async Task LoadAsync(CancellationToken cancellationToken)
    {
        await ReloadAsync(cancellationToken);
        foreach (var dataset in Records.All.Select(r => r.Value).Where(d => !IsTerminal(d)))
        {
            DatasetResumed(dataset.Name, dataset.State);
            await unfinished.AddAsync(ResourceName.IdOf(dataset.Name, "datasets"), cancellationToken);
        }
    }

    /// <summary>Reads what other replicas wrote.</summary>
    public async Task ReloadAsync(CancellationToken cancellationToken)
    {
        foreach (var (id, cause) in await Records.LoadAsync(cancellationToken))
        {
            RecordUnreadable(id, cause);
        }
    }

    /// <summary>Creates a dataset, or finds the one that is there; one that failed, was cancelled, or lost files since, is made again.</summary>
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
        await Records.RefreshAsync(id, cancellationToken);
        var (created, record) = await Records.TryCreateAsync(id, wanted, cancellationToken);
        if (created)
        {
            DatasetCreated(wanted.Name, resolved.Files.Count);
            await unfinished.AddAsync(id, CancellationToken.None);
            return record.Value;
        }

        var present = record.Value;
        var isLost = present.State == State.Ready && present.Fingerprint == wanted.Fingerprint
            && await CommittedDataset.TryFindAsync(store, present, cancellationToken) is null;
        if (isLost || present.State is State.Failed or State.Cancelled)
        {
            present = await RestartAsync(id, present, wanted, cancellationToken);
        }

        if (!IsTerminal(present))
        {
            // The call that made the record may not have come as far as the list.
            await unfinished.AddAsync(id, CancellationToken.None);
        }

        return present.Fingerprint == wanted.Fingerprint ? present : throw RpcErrors.Create(
            StatusCode.AlreadyExists, ErrorReasons.AlreadyExists, present.Spec.Equals(wanted.Spec)
                ? $"'{present.Name}' was made before its source files changed. Choose another dataset_id, or leave it out."
                : $"'{present.Name}' was made from another spec. Choose another dataset_id, or leave it out.");
    }

    /// <summary>Stops the making of a dataset. Whoever makes it sees that in the record.</summary>
    /// <exception cref="BlobNotFoundException">There is no such dataset.</exception>
    public async Task<Dataset> CancelAsync(string id, CancellationToken cancellationToken)
    {
        var record = await UpdateAsync(id, dataset =>
        {
            if (IsTerminal(dataset))
            {
                return false;
            }

            dataset.State = State.Cancelled;
            dataset.EndTime = Timestamp.FromDateTimeOffset(DateTimeOffset.UtcNow);
            return true;
        }, durable: true, cancellationToken);
        return record.Value;
    }

    /// <summary>Changes a record that another replica may have written in the meantime.</summary>
    public async Task<RecordVersion<Dataset>> UpdateAsync(string id, Func<Dataset, bool> change, bool durable, CancellationToken cancellationToken)
    {
        for (var attempt = 1; ; attempt++)
        {
            try
            {
                return await Records.UpdateAsync(id, change, durable, cancellationToken);
            }
            catch (BlobConditionException) when (attempt < MaxAttempts)
            {
                await Records.RefreshAsync(id, cancellationToken);
            }
        }
    }

    // Nothing happens when another call was faster.
    private async Task<Dataset> RestartAsync(string id, Dataset seen, Dataset wanted, CancellationToken cancellationToken)
    {
        var record = await UpdateAsync(id, dataset =>
        {
            if (dataset.State != seen.State || !Equals(dataset.EndTime, seen.EndTime))
            {
                return false;
            }

            Reset(dataset, wanted);
            return true;
        }, durable: true, cancellationToken);
        return record.Value;
    }

    /// <summary>Identifies a spec and its source files as they are now.</summary>
    public static string Fingerprint(DatasetSpec spec, IEnumerable<SourceFile> files)
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
            State = State.Queued,
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
        dataset.State = State.Queued;
        dataset.Progress = new DatasetProgress();
        dataset.Tokenizer = "";
        dataset.VocabularySize = 0;
        dataset.Splits.Clear();
        dataset.Error = null;
        dataset.EndTime = null;
    }

    [LoggerMessage(1001, LogLevel.Information, "Created {Dataset} from {Files} files")]
    private partial void DatasetCreated(string dataset, int files);

    [LoggerMessage(1002, LogLevel.Information, "{Dataset} was left {State} and is taken up again")]
    private partial void DatasetResumed(string dataset, State state);

    [LoggerMessage(1003, LogLevel.Error, "The record of datasets/{Id} cannot be read and is left out")]
    private partial void RecordUnreadable(string id, Exception exception);
}
