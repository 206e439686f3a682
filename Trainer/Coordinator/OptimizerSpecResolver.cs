using LlmPipeline.Runs.V1;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary><c>optimizer</c> of a run. A key that the kind or the schedule does not have stays unset; set, it is an error.</summary>
internal static class OptimizerSpecResolver
{
    private static readonly string[] Kinds = ["sgd", "rmsprop", "adam", "adamw"];
    private static readonly string[] Schedules = ["constant", "step", "cosine", "linear", "warmup-stable-decay"];

    /// <summary>Fills in what is open and checks all of it.</summary>
    /// <exception cref="Grpc.Core.RpcException">INVALID_ARGUMENT with a message that names key, range and remedy.</exception>
    public static OptimizerSpec Resolve(OptimizerSpec optimizer, long steps)
    {
        optimizer.Kind = optimizer.HasKind ? optimizer.Kind : "adamw";
        SpecCheck.OneOf(optimizer.Kind, Kinds, "optimizer.kind");
        optimizer.LearningRate = optimizer.HasLearningRate ? optimizer.LearningRate : 1e-3;
        SpecCheck.Positive(optimizer.LearningRate, 1e6, "optimizer.learning_rate");
        ResolveRule(optimizer);
        ResolveDecay(optimizer);
        optimizer.ClipNorm = optimizer.HasClipNorm ? optimizer.ClipNorm : 1;
        SpecCheck.InRange(optimizer.ClipNorm, 0, 1e6, "optimizer.clip_norm", "0 switches clipping off");
        optimizer.ClipValue = optimizer.HasClipValue ? optimizer.ClipValue : 0;
        SpecCheck.InRange(optimizer.ClipValue, 0, 1e6, "optimizer.clip_value", "0 switches clipping by value off");
        ResolveSchedule(optimizer, steps);
        return optimizer;
    }

    private static void ResolveRule(OptimizerSpec optimizer)
    {
        var (sgd, rmsprop) = (optimizer.Kind == "sgd", optimizer.Kind == "rmsprop");
        if (Has(!sgd && !rmsprop, optimizer.HasBeta1, "beta1"))
        {
            optimizer.Beta1 = optimizer.HasBeta1 ? optimizer.Beta1 : 0.9;
            SpecCheck.Share(optimizer.Beta1, "optimizer.beta1");
        }

        if (Has(!sgd && !rmsprop, optimizer.HasBeta2, "beta2"))
        {
            optimizer.Beta2 = optimizer.HasBeta2 ? optimizer.Beta2 : 0.99;
            SpecCheck.Share(optimizer.Beta2, "optimizer.beta2");
        }

        if (Has(!sgd, optimizer.HasEpsilon, "epsilon"))
        {
            optimizer.Epsilon = optimizer.HasEpsilon ? optimizer.Epsilon : 1e-8;
            SpecCheck.Positive(optimizer.Epsilon, 1, "optimizer.epsilon");
        }

        if (Has(sgd || rmsprop, optimizer.HasMomentum, "momentum"))
        {
            optimizer.Momentum = optimizer.HasMomentum ? optimizer.Momentum : 0;
            SpecCheck.Share(optimizer.Momentum, "optimizer.momentum");
        }

        if (Has(sgd, optimizer.HasNesterov, "nesterov"))
        {
            optimizer.Nesterov = optimizer.HasNesterov && optimizer.Nesterov;
            SpecCheck.That(!optimizer.Nesterov || optimizer.Momentum > 0, "optimizer.nesterov", $"is true, but optimizer.momentum is 0; set optimizer.momentum above 0, for example to 0.9");
        }

        if (Has(sgd, optimizer.HasDampening, "dampening"))
        {
            optimizer.Dampening = optimizer.HasDampening ? optimizer.Dampening : 0;
            SpecCheck.Share(optimizer.Dampening, "optimizer.dampening");
            SpecCheck.That(optimizer.Dampening == 0 || (optimizer.Momentum > 0 && !optimizer.Nesterov), "optimizer.dampening",
                $"is {optimizer.Dampening}, but must be 0 unless optimizer.momentum is above 0 and optimizer.nesterov false");
        }

        if (Has(rmsprop, optimizer.HasAlpha, "alpha"))
        {
            optimizer.Alpha = optimizer.HasAlpha ? optimizer.Alpha : 0.99;
            SpecCheck.Share(optimizer.Alpha, "optimizer.alpha");
        }

        if (Has(rmsprop, optimizer.HasCentered, "centered"))
        {
            optimizer.Centered = optimizer.HasCentered && optimizer.Centered;
        }

        bool Has(bool exists, bool isSet, string key) => Allowed(exists, isSet, key, $"optimizer.kind is {optimizer.Kind}");
    }

    private static void ResolveDecay(OptimizerSpec optimizer)
    {
        optimizer.WeightDecay = optimizer.HasWeightDecay ? optimizer.WeightDecay : optimizer.Kind == "adamw" ? 0.1 : 0;
        SpecCheck.InRange(optimizer.WeightDecay, 0, 1e6, "optimizer.weight_decay");
        SpecCheck.That(optimizer.WeightDecay == 0 || optimizer.Kind != "adam", "optimizer.weight_decay",
            $"is {optimizer.WeightDecay}, but optimizer.kind is adam; Adam with decoupled decay is adamw: set optimizer.kind to adamw, or optimizer.l2 instead");
        optimizer.L2 = optimizer.HasL2 ? optimizer.L2 : 0;
        SpecCheck.InRange(optimizer.L2, 0, 1e6, "optimizer.l2");
        SpecCheck.That(optimizer.L2 == 0 || optimizer.Kind != "adamw", "optimizer.l2",
            $"is {optimizer.L2}, but optimizer.kind is adamw, whose decay is decoupled: set optimizer.kind to adam, or optimizer.weight_decay instead");
    }

    private static void ResolveSchedule(OptimizerSpec optimizer, long steps)
    {
        optimizer.WarmupSteps = optimizer.HasWarmupSteps ? optimizer.WarmupSteps : Math.Min(100, steps / 10);
        SpecCheck.InRange(optimizer.WarmupSteps, 0, steps, "optimizer.warmup_steps", "the upper end is training.steps");
        optimizer.Schedule = optimizer.HasSchedule ? optimizer.Schedule : "cosine";
        SpecCheck.OneOf(optimizer.Schedule, Schedules, "optimizer.schedule");
        if (Has(optimizer.Schedule is not ("constant" or "step"), optimizer.HasMinLearningRate, "min_learning_rate"))
        {
            optimizer.MinLearningRate = optimizer.HasMinLearningRate ? optimizer.MinLearningRate : optimizer.LearningRate / 10;
            SpecCheck.InRange(optimizer.MinLearningRate, 0, optimizer.LearningRate, "optimizer.min_learning_rate", "the upper end is optimizer.learning_rate");
        }

        if (Has(optimizer.Schedule == "step", optimizer.HasStepSize, "step_size"))
        {
            optimizer.StepSize = optimizer.HasStepSize ? optimizer.StepSize : Math.Max(1, steps / 3);
            SpecCheck.InRange(optimizer.StepSize, 1, long.MaxValue, "optimizer.step_size");
        }

        if (Has(optimizer.Schedule == "step", optimizer.HasGamma, "gamma"))
        {
            optimizer.Gamma = optimizer.HasGamma ? optimizer.Gamma : 0.1;
            SpecCheck.Positive(optimizer.Gamma, 1, "optimizer.gamma");
        }

        if (Has(optimizer.Schedule == "warmup-stable-decay", optimizer.HasDecayShare, "decay_share"))
        {
            optimizer.DecayShare = optimizer.HasDecayShare ? optimizer.DecayShare : 0.2;
            SpecCheck.Positive(optimizer.DecayShare, 1, "optimizer.decay_share");
        }

        bool Has(bool exists, bool isSet, string key) => Allowed(exists, isSet, key, $"optimizer.schedule is {optimizer.Schedule}");
    }

    /// <summary>Whether a key exists beside a choice; an error when it is set and does not.</summary>
    private static bool Allowed(bool exists, bool isSet, string key, string choice)
    {
        SpecCheck.That(exists || !isSet, $"optimizer.{key}", $"is set, but {choice}, which has no {key}; leave it out");
        return exists;
    }
}
