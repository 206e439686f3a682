using System.Diagnostics;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Threading.Channels;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using LlmPipeline.Evaluations.V1;
using LlmPipeline.Evaluator.Measuring;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;
using LlmPipeline.Text.NGrams;

namespace LlmPipeline.Evaluator;

/// <summary>The records of evaluations, and the queue of those that are to be done.</summary>
internal sealed partial class EvaluationCatalog(IBlobStore store, EvaluatorTelemetry telemetry, ILogger<EvaluationCatalog> logger)
{
    private readonly Channel<string> _queue = Channel.CreateUnbounded<string>();

    /// <summary>The records.</summary>
    public RecordStore<Evaluation> Records { get; } = new(store, new RecordFormat<Evaluation>
    {
        Collection = "evaluations",
        File = "evaluation.json",
        Serialize = new JsonFormatter(JsonFormatter.Settings.Default.WithIndentation()).Format,
        Parse = StoredMessages.Parser.Parse<Evaluation>,
        Copy = e => e.Clone(),
        CreateTime = e => e.CreateTime?.ToDateTimeOffset() ?? default,
        State = e => e.State,
        IsTerminal = IsTerminal,
    });

    /// <summary>Ids of evaluations to do, in the order in which they came.</summary>
    public ChannelReader<string> Queue => _queue.Reader;

    public static bool IsTerminal(Evaluation evaluation) =>
        evaluation.State is Evaluation.Types.State.Succeeded or Evaluation.Types.State.Failed or Evaluation.Types.State.Cancelled;

    /// <summary>Reads the records back and queues what an earlier process left unfinished.</summary>
    public async Task LoadAsync(CancellationToken cancellationToken)
    {
        foreach (var (id, cause) in await Records.LoadAsync(cancellationToken))
        {
            RecordUnreadable(id, cause);
        }

        foreach (var evaluation in Records.All.Select(r => r.Value).Where(e => !IsTerminal(e)).Reverse())
        {
            EvaluationResumed(evaluation.Name, evaluation.State);
            Enqueue(ResourceName.IdOf(evaluation.Name, "evaluations"));
        }
    }

    /// <summary>Creates an evaluation, or finds the one that is there; one that failed or was cancelled is queued again.</summary>
    /// <returns>The evaluation, and whether this call queued it.</returns>
    /// <exception cref="RpcException">The spec is not valid, or the id is taken by another spec.</exception>
    public async Task<(Evaluation Evaluation, bool Queued)> CreateAsync(string id, EvaluationRequestSpec? spec, CancellationToken cancellationToken)
    {
        if (id.Length > 0)
        {
            ResourceName.RequireId(id, "evaluation_id");
        }

        var (resolved, fingerprint) = await ResolveAsync(spec, cancellationToken);
        id = id.Length > 0 ? id : $"e-{fingerprint[..16]}";
        var (created, record) = await Records.TryCreateAsync(id, new Evaluation
        {
            Name = $"evaluations/{id}",
            Spec = resolved,
            State = Evaluation.Types.State.Queued,
            CreateTime = Timestamp.FromDateTimeOffset(DateTimeOffset.UtcNow),
            Traceparent = Activity.Current?.Id ?? "",
            Fingerprint = fingerprint,
        }, cancellationToken);
        if (!created && record.Value.Fingerprint != fingerprint)
        {
            throw RpcErrors.Create(StatusCode.AlreadyExists, ErrorReasons.AlreadyExists,
                $"'{record.Value.Name}' measures something else, or its model has changed since. Choose another evaluation_id, or leave it out.");
        }

        if (created)
        {
            EvaluationCreated(record.Value.Name, resolved.Model, resolved.Dataset);
            Enqueue(id);
            return (record.Value, true);
        }

        return CanRetry(record.Value) ? await RetryAsync(id, cancellationToken) : (record.Value, false);
    }

    /// <summary>Stops an evaluation; one that is over stays as it is. Whoever measures sees that in the record.</summary>
    /// <exception cref="BlobNotFoundException">There is no such evaluation.</exception>
    public async Task<Evaluation> CancelAsync(string id, CancellationToken cancellationToken)
    {
        var record = await Records.UpdateAsync(id, evaluation =>
        {
            if (IsTerminal(evaluation))
            {
                return false;
            }

            evaluation.State = Evaluation.Types.State.Cancelled;
            evaluation.EndTime = Timestamp.FromDateTimeOffset(DateTimeOffset.UtcNow);
            return true;
        }, durable: true, cancellationToken);
        return record.Value;
    }

    private static bool CanRetry(Evaluation evaluation) => evaluation.State is Evaluation.Types.State.Failed or Evaluation.Types.State.Cancelled;

    private async Task<(Evaluation Evaluation, bool Queued)> RetryAsync(string id, CancellationToken cancellationToken)
    {
        var retried = false;
        var record = await Records.UpdateAsync(id, evaluation =>
        {
            retried = CanRetry(evaluation);
            if (retried)
            {
                evaluation.State = Evaluation.Types.State.Queued;
                evaluation.Fraction = 0;
                evaluation.Error = null;
                evaluation.EndTime = null;
                evaluation.Traceparent = Activity.Current?.Id ?? "";
            }

            return retried;
        }, durable: true, cancellationToken);
        if (retried)
        {
            Enqueue(id);
        }

        return (record.Value, retried);
    }

    /// <summary>Fills in defaults and versions, and finds model and dataset.</summary>
    private async Task<(EvaluationRequestSpec Spec, string Fingerprint)> ResolveAsync(EvaluationRequestSpec? spec, CancellationToken cancellationToken)
    {
        var resolved = spec?.Clone() ?? throw RpcErrors.Create(StatusCode.InvalidArgument, ErrorReasons.InvalidSpec, "spec is not set. Give at least spec.model and spec.dataset.");
        resolved.Split = resolved.Split.Length > 0 ? resolved.Split : "validation";
        resolved.BleuTokens = resolved.BleuTokens == 0 ? 32 : resolved.BleuTokens;
        Require(resolved.Split is "validation" or "test" or "train", "split", $"is '{resolved.Split}'; it has to be one of validation, test, train");
        Require(resolved.BleuSamples is >= 0 and <= 100_000, "bleu_samples", $"is {resolved.BleuSamples}; it has to be from 0 to 100000");
        Require(resolved.BleuTokens is >= 1 and <= 65_536, "bleu_tokens", $"is {resolved.BleuTokens}; it has to be from 1 to 65536");
        Require(resolved.NgramOrder is >= 0 and <= NgramOptions.MaxOrder, "ngram_order", $"is {resolved.NgramOrder}; it has to be from 0 to {NgramOptions.MaxOrder}");
        ResourceName.IdOf(resolved.Dataset, "datasets");
        ResolveFewShot(resolved.FewShot);
        Require((resolved.Base.Length > 0) == (resolved.OldDataset.Length > 0), "old_dataset", "and base go together; give both or none of them");
        resolved.Model = await ResolveModelAsync(resolved.Model, cancellationToken);
        resolved.Base = resolved.Base.Length > 0 ? await ResolveModelAsync(resolved.Base, cancellationToken) : "";
        if (resolved.OldDataset.Length > 0)
        {
            ResourceName.IdOf(resolved.OldDataset, "datasets");
        }

        var model = await store.TryReadManifestAsync(resolved.Model, cancellationToken);
        if (model is null)
        {
            RpcErrors.ThrowNotFound(resolved.Model);
        }

        var dataset = await store.TryReadManifestAsync(resolved.Dataset, cancellationToken);
        if (dataset is null)
        {
            RpcErrors.ThrowNotFound(resolved.Dataset);
        }

        var files = model.Files.Concat(dataset.Files).ToList();
        foreach (var other in new[] { resolved.Base, resolved.OldDataset }.Where(n => n.Length > 0))
        {
            var manifest = await store.TryReadManifestAsync(other, cancellationToken);
            if (manifest is null)
            {
                RpcErrors.ThrowNotFound(other);
            }

            files.AddRange(manifest.Files);
        }

        var text = JsonFormatter.Default.Format(resolved) + string.Join('\n', files.Select(f => f.Name + f.Sha256));
        return (resolved, Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text))));
    }

    private static void ResolveFewShot(FewShotSpec? spec)
    {
        if (spec is null)
        {
            return;
        }

        spec.Template = spec.Template.Length > 0 ? spec.Template : FewShot.DefaultTemplate;
        Require(spec.Shots is >= 0 and <= 64, "few_shot.shots", $"is {spec.Shots}; it has to be from 0 to 64");
        Require(spec.Documents is >= 0 and <= 100_000, "few_shot.documents", $"is {spec.Documents}; it has to be from 0 to 100000");
        Require(FewShot.Problem(spec.Template) is null, "few_shot.template", FewShot.Problem(spec.Template) ?? "");
        Require(spec.Labels.All(l => l.Length > 0) && spec.Labels.Distinct().Count() == spec.Labels.Count, "few_shot.labels", "has an entry that is empty or comes twice");
    }

    private async Task<string> ResolveModelAsync(string name, CancellationToken cancellationToken)
    {
        if (name.StartsWith("runs/", StringComparison.Ordinal))
        {
            ResourceName.ParseCheckpoint(name);
            return name;
        }

        if (ResourceName.ParseModel(name) is (_, not null))
        {
            return name;
        }

        var newest = 0;
        await foreach (var blob in store.ListAsync($"{name}/versions/", cancellationToken))
        {
            if (blob.Name.Split('/') is [_, _, _, var version, "manifest.json"] && int.TryParse(version, NumberStyles.None, CultureInfo.InvariantCulture, out var number))
            {
                newest = Math.Max(newest, number);
            }
        }

        return newest > 0 ? $"{name}/versions/{newest}" : throw RpcErrors.Create(StatusCode.NotFound, ErrorReasons.NotFound, $"'{name}' has no published version. List the models to see what there is.");
    }

    private static void Require(bool condition, string field, string problem)
    {
        if (!condition)
        {
            RpcErrors.ThrowInvalidArgument(ErrorReasons.InvalidSpec, $"spec.{field} {problem}.");
        }
    }

    /// <summary>Puts an evaluation at the end of the queue.</summary>
    public void Enqueue(string id)
    {
        telemetry.QueueChanged(1);
        _queue.Writer.TryWrite(id);
    }

    [LoggerMessage(3001, LogLevel.Information, "Created {Evaluation} of {Model} on {Dataset}")]
    private partial void EvaluationCreated(string evaluation, string model, string dataset);

    [LoggerMessage(3002, LogLevel.Information, "{Evaluation} was left {State} by an earlier process and is done anew")]
    private partial void EvaluationResumed(string evaluation, Evaluation.Types.State state);

    [LoggerMessage(3003, LogLevel.Error, "The record of evaluations/{Id} cannot be read and is left out")]
    private partial void RecordUnreadable(string id, Exception exception);
}
