using LlmPipeline.Runs.V1;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary><c>optimizer</c> of a run.</summary>
internal static class OptimizerSpecResolver
{
    /// <summary>Fills in what is open and checks all of it.</summary>
    /// <exception cref="Grpc.Core.RpcException">INVALID_ARGUMENT with a message that names key, range and remedy.</exception>
    public static OptimizerSpec Resolve(OptimizerSpec optimizer, long steps)
    {
        optimizer.Kind = optimizer.HasKind ? optimizer.Kind : "adamw";
        SpecCheck.OneOf(optimizer.Kind, ["adamw"], "optimizer.kind");
        optimizer.LearningRate = optimizer.HasLearningRate ? optimizer.LearningRate : 1e-3;
        SpecCheck.Positive(optimizer.LearningRate, 1e6, "optimizer.learning_rate");
        optimizer.MinLearningRate = optimizer.HasMinLearningRate ? optimizer.MinLearningRate : optimizer.LearningRate / 10;
        SpecCheck.InRange(optimizer.MinLearningRate, 0, optimizer.LearningRate, "optimizer.min_learning_rate", "the upper end is optimizer.learning_rate");
        optimizer.WarmupSteps = optimizer.HasWarmupSteps ? optimizer.WarmupSteps : Math.Min(100, steps / 10);
        SpecCheck.InRange(optimizer.WarmupSteps, 0, steps, "optimizer.warmup_steps", "the upper end is training.steps");
        optimizer.Beta1 = optimizer.HasBeta1 ? optimizer.Beta1 : 0.9;
        SpecCheck.Share(optimizer.Beta1, "optimizer.beta1");
        optimizer.Beta2 = optimizer.HasBeta2 ? optimizer.Beta2 : 0.99;
        SpecCheck.Share(optimizer.Beta2, "optimizer.beta2");
        optimizer.Epsilon = optimizer.HasEpsilon ? optimizer.Epsilon : 1e-8;
        SpecCheck.Positive(optimizer.Epsilon, 1, "optimizer.epsilon");
        optimizer.WeightDecay = optimizer.HasWeightDecay ? optimizer.WeightDecay : 0.1;
        SpecCheck.InRange(optimizer.WeightDecay, 0, 1e6, "optimizer.weight_decay");
        optimizer.ClipNorm = optimizer.HasClipNorm ? optimizer.ClipNorm : 1;
        SpecCheck.InRange(optimizer.ClipNorm, 0, 1e6, "optimizer.clip_norm", "0 switches clipping off");
        return optimizer;
    }
}
