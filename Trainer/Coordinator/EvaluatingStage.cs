using Grpc.Core;
using LlmPipeline.Evaluations.V1;
using LlmPipeline.Runs.V1;
using LlmPipeline.ServiceDefaults;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary>EVALUATING: the chosen checkpoint is measured by the Evaluator.</summary>
internal sealed partial class EvaluatingStage(EvaluationService.EvaluationServiceClient evaluations, RunCatalog runs, ILogger<EvaluatingStage> logger)
{
    private static readonly TimeSpan CancelPatience = TimeSpan.FromSeconds(5);

    /// <summary>The checkpoint that is measured and published.</summary>
    public static string Chosen(Run run) =>
        run.Spec.Evaluation.Checkpoint == "best" && run.BestCheckpoint.Length > 0 ? run.BestCheckpoint : run.LatestCheckpoint;

    /// <summary>Returns the numbers.</summary>
    /// <exception cref="StageFailedException">The measurement failed.</exception>
    public async Task<EvaluationResult> RunAsync(string id, Run run, ServiceCall evaluator, CancellationToken cancellationToken)
    {
        using var activity = RunTrace.Start("run evaluating", run);
        var spec = run.Spec.Evaluation;
        var request = new CreateEvaluationRequest
        {
            Spec = new EvaluationRequestSpec
            {
                Model = Chosen(run),
                Dataset = run.Dataset,
                Split = spec.Split,
                BleuSamples = spec.BleuSamples,
                BleuTokens = spec.BleuTokens,
                NgramOrder = spec.NgramOrder,
            },
        };
        if (run.Spec.FineTune is { HasOldDataset: true } tune)
        {
            (request.Spec.Base, request.Spec.OldDataset) = (tune.Base, tune.OldDataset);
        }

        activity?.SetTag("checkpoint", request.Spec.Model);
        Evaluation evaluation;
        var name = "";
        try
        {
            evaluation = await evaluator.RunAsync(token => CreateAsync(request, ServiceCall.Deadline, token), cancellationToken);
            name = evaluation.Name;
            while (!IsTerminal(evaluation))
            {
                evaluation = await evaluator.RunAsync(token => WatchAsync(id, evaluation, evaluator, token), cancellationToken);
            }
        }
        catch (OperationCanceledException) when (runs.IsCancelling(id))
        {
            await CancelAsync(run, name, request);
            throw;
        }

        activity?.SetTag("evaluation", evaluation.Name);
        if (evaluation.State == Evaluation.Types.State.Cancelled)
        {
            throw new StageFailedException(ErrorReasons.WrongState, $"'{evaluation.Name}' was cancelled. Resume the run to measure it again.");
        }

        if (evaluation.State == Evaluation.Types.State.Failed)
        {
            throw new StageFailedException(evaluation.Error?.Reason ?? ErrorReasons.Internal, evaluation.Error?.Message ?? $"'{evaluation.Name}' failed.");
        }

        var result = evaluation.Result.Clone();
        result.Name = evaluation.Name;
        return result;
    }

    private async Task<Evaluation> CreateAsync(CreateEvaluationRequest request, DateTime deadline, CancellationToken cancellationToken) =>
        (await evaluations.CreateEvaluationAsync(request, deadline: deadline, cancellationToken: cancellationToken)).Evaluation;

    private async Task<Evaluation> WatchAsync(string id, Evaluation evaluation, ServiceCall evaluator, CancellationToken cancellationToken)
    {
        using var call = evaluations.WatchEvaluation(new WatchEvaluationRequest { Name = evaluation.Name }, cancellationToken: cancellationToken);
        await foreach (var message in call.ResponseStream.ReadAllAsync(cancellationToken))
        {
            evaluation = message.Evaluation;
            await evaluator.AnsweredAsync();
            await runs.Records.UpdateAsync(id, run =>
            {
                if (run.Progress.Fraction.Equals(evaluation.Fraction))
                {
                    return false;
                }

                run.Progress.Fraction = evaluation.Fraction;
                return true;
            }, durable: false, cancellationToken);
        }

        return evaluation;
    }

    private static bool IsTerminal(Evaluation evaluation) =>
        evaluation.State is Evaluation.Types.State.Succeeded or Evaluation.Types.State.Failed or Evaluation.Types.State.Cancelled;

    /// <summary>Stops a measurement. No other run waits for it: the checkpoint is this run's. An Evaluator that does not answer goes on: nothing is lost but its time.</summary>
    /// <param name="run">The run.</param>
    /// <param name="name">Of the evaluation. Empty: the call that began it was cancelled, and may have arrived; made again, it says the name.</param>
    /// <param name="request">That call.</param>
    private async Task CancelAsync(Run run, string name, CreateEvaluationRequest request)
    {
        try
        {
            name = name.Length > 0 ? name : (await CreateAsync(request, DateTime.UtcNow + CancelPatience, CancellationToken.None)).Name;
            await evaluations.CancelEvaluationAsync(new CancelEvaluationRequest { Name = name }, deadline: DateTime.UtcNow + CancelPatience, cancellationToken: CancellationToken.None);
        }
        catch (RpcException exception)
        {
            LogNotCancelled(exception, run.Name);
        }
    }

    [LoggerMessage(2016, LogLevel.Warning, "The Evaluator could not be told to stop measuring {Run}, and goes on.")]
    private partial void LogNotCancelled(Exception exception, string run);
}
