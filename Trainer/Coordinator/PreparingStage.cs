using Grpc.Core;
using LlmPipeline.Datasets.V1;
using LlmPipeline.Runs.V1;
using LlmPipeline.ServiceDefaults;
using LlmPipeline.Storage;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary>PREPARING: the dataset is made, or found, by the Preprocessor.</summary>
internal sealed partial class PreparingStage(DatasetService.DatasetServiceClient datasets, RunCatalog runs, IBlobStore store, ILogger<PreparingStage> logger)
{
    private static readonly TimeSpan CancelPatience = TimeSpan.FromSeconds(5);

    /// <summary>Returns the dataset when it is ready.</summary>
    /// <exception cref="StageFailedException">It cannot be made, or does not suffice for the spec.</exception>
    public async Task<Dataset> RunAsync(string id, Run run, ServiceCall preprocessor, CancellationToken cancellationToken)
    {
        using var activity = RunTrace.Start("run preparing", run);
        var old = run.Spec.FineTune is { HasOldDataset: true } ? await OldDatasetAsync(run.Spec, preprocessor, cancellationToken) : null;
        Dataset dataset;
        try
        {
            dataset = await preprocessor.RunAsync(token => CreateAsync(run.Spec, ServiceCall.Deadline, token), cancellationToken);
        }
        catch (OperationCanceledException) when (runs.IsCancelling(id))
        {
            await CancelUnnamedAsync(run);
            throw;
        }

        activity?.SetTag("dataset", dataset.Name);
        try
        {
            while (!IsTerminal(dataset))
            {
                dataset = await preprocessor.RunAsync(token => WatchAsync(id, dataset, preprocessor, token), cancellationToken);
            }
        }
        catch (OperationCanceledException) when (runs.IsCancelling(id))
        {
            await CancelAsync(run, dataset.Name);
            throw;
        }

        if (dataset.State == Dataset.Types.State.Cancelled)
        {
            throw new StageFailedException(ErrorReasons.WrongState, $"'{dataset.Name}' was cancelled. Resume the run to make it again.");
        }

        if (dataset.State == Dataset.Types.State.Failed)
        {
            throw new StageFailedException(dataset.Error?.Reason ?? ErrorReasons.Internal, dataset.Error?.Message ?? $"'{dataset.Name}' could not be made.");
        }

        Check(run.Spec, dataset);
        if (run.Spec.FineTune is { } tune)
        {
            await FineTuneResolver.CheckTokenizersAsync(tune, dataset, old, store, cancellationToken);
        }

        return dataset;
    }

    /// <summary>The dataset on which forgetting is measured, after training.</summary>
    private async Task<Dataset> OldDatasetAsync(RunSpec spec, ServiceCall preprocessor, CancellationToken cancellationToken)
    {
        var (name, split) = (spec.FineTune.OldDataset, spec.Evaluation.Split);
        var old = (await preprocessor.RunAsync(token => datasets.GetDatasetAsync(
            new GetDatasetRequest { Name = name }, deadline: ServiceCall.Deadline, cancellationToken: token).ResponseAsync, cancellationToken)).Dataset;
        var wrong = old switch
        {
            { State: not Dataset.Types.State.Ready } => $"is {old.State.ToString().ToUpperInvariant()}, not READY",
            { Labels.Count: > 0 } => "has documents with labels, on which a language model is not measured",
            _ when Tokens(old, split) < 2 => $"has no {split} split, which evaluation.split asks for",
            _ => null,
        };
        return wrong is null ? old : throw new StageFailedException(ErrorReasons.InvalidSpec, $"fine_tune.old_dataset '{name}' {wrong}. Create a run that names another one, or none.");
    }

    private async Task<Dataset> CreateAsync(RunSpec spec, DateTime deadline, CancellationToken cancellationToken)
    {
        if (spec.HasDatasetName)
        {
            return (await datasets.GetDatasetAsync(
                new GetDatasetRequest { Name = spec.DatasetName }, deadline: deadline, cancellationToken: cancellationToken)).Dataset;
        }

        return (await datasets.CreateDatasetAsync(
            new CreateDatasetRequest { Spec = spec.Dataset }, deadline: deadline, cancellationToken: cancellationToken)).Dataset;
    }

    private async Task<Dataset> WatchAsync(string id, Dataset dataset, ServiceCall preprocessor, CancellationToken cancellationToken)
    {
        using var call = datasets.WatchDataset(new WatchDatasetRequest { Name = dataset.Name }, cancellationToken: cancellationToken);
        await foreach (var message in call.ResponseStream.ReadAllAsync(cancellationToken))
        {
            dataset = message.Dataset;
            await preprocessor.AnsweredAsync();
            await runs.Records.UpdateAsync(id, run => Mirror(run.Progress, dataset.Progress), durable: false, cancellationToken);
        }

        return dataset;
    }

    private static bool IsTerminal(Dataset dataset) =>
        dataset.State is Dataset.Types.State.Ready or Dataset.Types.State.Failed or Dataset.Types.State.Cancelled;

    /// <summary>Stops the making of a dataset that this run asked for and no other run waits for. A Preprocessor that does not answer goes on: nothing is lost but its time.</summary>
    private async Task CancelAsync(Run run, string dataset)
    {
        var isWanted = runs.Records.All.Select(r => r.Value).Any(other => other.Name != run.Name && !RunStates.IsTerminal(other.State)
            && (other.Spec.HasDatasetName ? other.Spec.DatasetName == dataset : Equals(other.Spec.Dataset, run.Spec.Dataset)));
        if (isWanted || run.Spec.HasDatasetName)
        {
            return;
        }

        try
        {
            await datasets.CancelDatasetAsync(new CancelDatasetRequest { Name = dataset }, deadline: DateTime.UtcNow + CancelPatience, cancellationToken: CancellationToken.None);
        }
        catch (RpcException exception)
        {
            LogNotCancelled(exception, dataset);
        }
    }

    /// <summary>The same for a call that was cancelled, and may have arrived: made again, it says the name of what it began.</summary>
    private async Task CancelUnnamedAsync(Run run)
    {
        if (run.Spec.HasDatasetName)
        {
            return;
        }

        try
        {
            await CancelAsync(run, (await CreateAsync(run.Spec, DateTime.UtcNow + CancelPatience, CancellationToken.None)).Name);
        }
        catch (RpcException exception)
        {
            LogNotCancelled(exception, $"the dataset of {run.Name}");
        }
    }

    private static bool Mirror(RunProgress progress, DatasetProgress? made)
    {
        if (made is null || (progress.Fraction.Equals(made.Fraction) && progress.HasRemainingSeconds == made.HasRemainingSeconds
            && progress.RemainingSeconds.Equals(made.RemainingSeconds)))
        {
            return false;
        }

        progress.Fraction = made.Fraction;
        if (made.HasRemainingSeconds)
        {
            progress.RemainingSeconds = made.RemainingSeconds;
        }
        else
        {
            progress.ClearRemainingSeconds();
        }

        return true;
    }

    /// <summary>Better now than after an hour of training.</summary>
    private static void Check(RunSpec spec, Dataset dataset)
    {
        if (dataset.Labels.Count > 0 && spec.FineTune is { HasOldDataset: true })
        {
            throw new StageFailedException(ErrorReasons.InvalidSpec,
                $"'{dataset.Name}' has labels, so a classifier comes of it, and fine_tune.old_dataset is set, by which the forgetting of a language model is measured. Create a run without one of them.");
        }

        // A sample is a piece of the text; where documents have labels, one of them, of any length.
        var train = Tokens(dataset, "train");
        var least = dataset.Labels.Count > 0 ? 1 : spec.Model.Context + 1;
        if (train < least)
        {
            throw new StageFailedException(ErrorReasons.SourceEmpty,
                $"'{dataset.Name}' has {train} tokens to train on, but a sample needs {least}. Give more text{(dataset.Labels.Count > 0 ? "" : ", or a smaller model.context")}.");
        }

        if (Tokens(dataset, spec.Evaluation.Split) < 2)
        {
            throw new StageFailedException(ErrorReasons.InvalidSpec,
                $"'{dataset.Name}' has no {spec.Evaluation.Split} split, which evaluation.split asks for. Set dataset.split.{spec.Evaluation.Split}_fraction above 0, or measure another split.");
        }
    }

    private static long Tokens(Dataset dataset, string split) => dataset.Splits.FirstOrDefault(s => s.Split == split)?.TokenCount ?? 0;

    [LoggerMessage(2015, LogLevel.Warning, "The Preprocessor could not be told to stop making {Dataset}, and goes on.")]
    private partial void LogNotCancelled(Exception exception, string dataset);
}
