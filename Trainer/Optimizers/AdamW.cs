using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace LlmPipeline.Trainer.Optimizers;

/// <summary>Constants of <see cref="AdamW"/> within a run.</summary>
/// <param name="Beta1">First moment decay.</param>
/// <param name="Beta2">Second moment decay.</param>
/// <param name="Epsilon">Added to the root of the second moment.</param>
/// <param name="WeightDecay">Decoupled decay.</param>
internal sealed record AdamWOptions(double Beta1, double Beta2, double Epsilon, double WeightDecay);

/// <summary>
/// AdamW (Loshchilov and Hutter 2019) in the form of PyTorch's <c>torch.optim.AdamW</c>: one pass over flat spans. Elementwise
/// IEEE operations in a fixed order, so that every machine gets the same bits.
/// </summary>
internal static class AdamW
{
    /// <summary>Updates parameters and moments.</summary>
    /// <param name="options">Constants.</param>
    /// <param name="step">The step, from 1.</param>
    /// <param name="learningRate">Learning rate of the step.</param>
    /// <param name="gradientFactor">Multiplies the gradient: the clip factor.</param>
    /// <param name="decayedLength">Elements of the leading range that decays.</param>
    /// <param name="parameters">Updated.</param>
    /// <param name="gradients">The summed gradient.</param>
    /// <param name="firstMoment">Updated.</param>
    /// <param name="secondMoment">Updated.</param>
    public static void Update(
        AdamWOptions options, long step, double learningRate, float gradientFactor, int decayedLength,
        Span<float> parameters, ReadOnlySpan<float> gradients, Span<float> firstMoment, Span<float> secondMoment)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(gradients.Length, parameters.Length);
        ArgumentOutOfRangeException.ThrowIfNotEqual(firstMoment.Length, parameters.Length);
        ArgumentOutOfRangeException.ThrowIfNotEqual(secondMoment.Length, parameters.Length);
        var constants = new Constants
        {
            GradientFactor = gradientFactor,
            Beta1Rest = (float)(1 - options.Beta1),
            Beta2 = (float)options.Beta2,
            Beta2Rest = (float)(1 - options.Beta2),
            Epsilon = (float)options.Epsilon,
            StepSize = (float)(learningRate / (1 - Math.Pow(options.Beta1, step))),
            InverseRootCorrection = (float)(1 / Math.Sqrt(1 - Math.Pow(options.Beta2, step))),
        };
        var decayed = (float)(1 - (learningRate * options.WeightDecay));
        Update(constants, decayed, parameters[..decayedLength], gradients[..decayedLength], firstMoment[..decayedLength], secondMoment[..decayedLength]);
        Update(constants, 1, parameters[decayedLength..], gradients[decayedLength..], firstMoment[decayedLength..], secondMoment[decayedLength..]);
    }

    private static void Update(in Constants constants, float keep, Span<float> parameters, ReadOnlySpan<float> gradients, Span<float> firstMoment, Span<float> secondMoment)
    {
        ref var parameter = ref MemoryMarshal.GetReference(parameters);
        ref var gradient = ref MemoryMarshal.GetReference(gradients);
        ref var first = ref MemoryMarshal.GetReference(firstMoment);
        ref var second = ref MemoryMarshal.GetReference(secondMoment);
        var kept = Vector256.Create(keep);
        var factor = Vector256.Create(constants.GradientFactor);
        var beta1Rest = Vector256.Create(constants.Beta1Rest);
        var beta2 = Vector256.Create(constants.Beta2);
        var beta2Rest = Vector256.Create(constants.Beta2Rest);
        var epsilon = Vector256.Create(constants.Epsilon);
        var stepSize = Vector256.Create(constants.StepSize);
        var correction = Vector256.Create(constants.InverseRootCorrection);
        nuint i = 0;
        for (; i + 8 <= (nuint)parameters.Length; i += 8)
        {
            var g = Vector256.LoadUnsafe(ref gradient, i) * factor;
            var m = Vector256.LoadUnsafe(ref first, i);
            m += (g - m) * beta1Rest;
            var v = (Vector256.LoadUnsafe(ref second, i) * beta2) + (g * g * beta2Rest);
            var p = Vector256.LoadUnsafe(ref parameter, i) * kept;
            p -= stepSize * m / ((Vector256.Sqrt(v) * correction) + epsilon);
            m.StoreUnsafe(ref first, i);
            v.StoreUnsafe(ref second, i);
            p.StoreUnsafe(ref parameter, i);
        }

        for (var j = (int)i; j < parameters.Length; j++)
        {
            var g = gradients[j] * constants.GradientFactor;
            var m = firstMoment[j];
            m += (g - m) * constants.Beta1Rest;
            var v = (secondMoment[j] * constants.Beta2) + (g * g * constants.Beta2Rest);
            firstMoment[j] = m;
            secondMoment[j] = v;
            parameters[j] = (parameters[j] * keep) - (constants.StepSize * m / ((MathF.Sqrt(v) * constants.InverseRootCorrection) + constants.Epsilon));
        }
    }

    private readonly struct Constants
    {
        public required float GradientFactor { get; init; }

        public required float Beta1Rest { get; init; }

        public required float Beta2 { get; init; }

        public required float Beta2Rest { get; init; }

        public required float Epsilon { get; init; }

        public required float StepSize { get; init; }

        public required float InverseRootCorrection { get; init; }
    }
}
