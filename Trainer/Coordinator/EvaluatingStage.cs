using Grpc.Core;
using LlmPipeline.Evaluations.V1;
using LlmPipeline.Runs.V1;
using LlmPipeline.ServiceDefaults;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary>EVALUATING: the chosen checkpoint is measured by the Evaluator.</summary>
internal sealed class EvaluatingStage(EvaluationService.EvaluationServiceClient evaluations, RunCatalog runs)
{
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
        var evaluation = (await evaluator.RunAsync(token => evaluations.CreateEvaluationAsync(
            request, deadline: ServiceCall.Deadline, cancellationToken: token).ResponseAsync, cancellationToken)).Evaluation;
        while (evaluation.State is not (Evaluation.Types.State.Succeeded or Evaluation.Types.State.Failed))
        {
            evaluation = await evaluator.RunAsync(token => WatchAsync(id, evaluation, evaluator, token), cancellationToken);
        }

        activity?.SetTag("evaluation", evaluation.Name);
        if (evaluation.State == Evaluation.Types.State.Failed)
        {
            throw new StageFailedException(evaluation.Error?.Reason ?? ErrorReasons.Internal, evaluation.Error?.Message ?? $"'{evaluation.Name}' failed.");
        }

        var result = evaluation.Result.Clone();
        result.Name = evaluation.Name;
        return result;
    }

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
}
