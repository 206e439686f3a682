using LlmPipeline.Evaluations.V1;
using LlmPipeline.Runs.V1;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary>What a loss is counted in: a classifier predicts once a document.</summary>
internal static class LossUnit
{
    private const string Token = "nats per token";
    private const string MaskedToken = "nats per masked token";
    private const string Document = "nats a document";

    /// <summary>The unit of losses while a run trains.</summary>
    public static string Of(Run run) => run.Labels.Count > 0 ? Document : run.Spec?.Model?.Objective == "masked" ? MaskedToken : Token;

    /// <summary>The unit of what was measured.</summary>
    public static string Of(EvaluationResult result) => result.Classification is not null ? Document : result.Model?.Objective == "masked" ? MaskedToken : Token;
}
