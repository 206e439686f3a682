using LlmPipeline.Runs.V1;
using LlmPipeline.Trainer.Worker;
using TorchSharp;
using static TorchSharp.torch;

namespace LlmPipeline.Trainer.Optimizers;

/// <summary>
/// An update rule over flat buffers: one pass, elementwise, each operation a single IEEE one in a fixed order, so that every
/// machine gets the same bits. What all rules share comes before them: the gradient is scaled (clipping by norm), then clamped
/// (clipping by value), then L2 adds to it; decoupled decay shrinks the parameter. The rules are PyTorch's.
/// </summary>
internal abstract class Optimizer
{
    /// <summary>Names of the buffers that the rule keeps between steps, laid out like the parameters and 0 at first; as PyTorch names them.</summary>
    public abstract IReadOnlyList<string> StateNames { get; }

    /// <summary>Decoupled decay (Loshchilov and Hutter 2019): a step takes <c>learning rate * WeightDecay</c> of the parameter off.</summary>
    public double WeightDecay { get; init; }

    /// <summary>Adds <c>L2 * parameter</c> to the gradient: the derivative of <c>L2 / 2 * sum of squares</c>.</summary>
    public double L2 { get; init; }

    /// <summary>Largest magnitude of an element of the gradient; 0 switches clipping by value off.</summary>
    public double ClipValue { get; init; }

    /// <summary>The one of <see cref="StateNames"/> that is a mean of squares; null for none. A mean of several is taken of its roots.</summary>
    public virtual string? MeanSquareName => null;

    /// <summary>The optimizer of a resolved spec, with low-communication training both optimizers.</summary>
    public static Optimizer Create(RunSpec spec) =>
        LocalSettings.From(spec.Training) is null ? Create(spec.Optimizer) : LocalOptimizer.Create(spec.Optimizer, spec.Training.Local);

    /// <summary>The optimizer of a resolved <c>optimizer</c>.</summary>
    public static Optimizer Create(OptimizerSpec spec) => spec.Kind switch
    {
        "sgd" => new Sgd
        {
            Momentum = spec.Momentum,
            Dampening = spec.Dampening,
            Nesterov = spec.Nesterov,
            WeightDecay = spec.WeightDecay,
            L2 = spec.L2,
            ClipValue = spec.ClipValue,
        },
        "rmsprop" => new RmsProp
        {
            Alpha = spec.Alpha,
            Epsilon = spec.Epsilon,
            Centered = spec.Centered,
            Momentum = spec.Momentum,
            WeightDecay = spec.WeightDecay,
            L2 = spec.L2,
            ClipValue = spec.ClipValue,
        },
        "adam" or "adamw" => new Adam
        {
            Beta1 = spec.Beta1,
            Beta2 = spec.Beta2,
            Epsilon = spec.Epsilon,
            WeightDecay = spec.WeightDecay,
            L2 = spec.L2,
            ClipValue = spec.ClipValue,
        },
        _ => throw new ArgumentException($"optimizer.kind is '{spec.Kind}', which this worker does not know.", nameof(spec)),
    };

    /// <summary>Does one step.</summary>
    /// <param name="step">The step, from 1.</param>
    /// <param name="learningRate">Learning rate of the step.</param>
    /// <param name="gradientFactor">Multiplies the gradient, see <see cref="GradientNorm.ClipFactor"/>.</param>
    /// <param name="decayedLength">Elements of the leading range that <see cref="WeightDecay"/> and <see cref="L2"/> apply to.</param>
    /// <param name="parameters">Updated.</param>
    /// <param name="gradients">Finite.</param>
    /// <param name="state">The buffers of <see cref="StateNames"/>; updated.</param>
    public virtual void Update(
        long step, double learningRate, float gradientFactor, int decayedLength,
        Span<float> parameters, ReadOnlySpan<float> gradients, IReadOnlyList<float[]> state)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(gradients.Length, parameters.Length);
        ArgumentOutOfRangeException.ThrowIfNotEqual(state.Count, StateNames.Count);
        foreach (var buffer in state)
        {
            ArgumentOutOfRangeException.ThrowIfNotEqual(buffer.Length, parameters.Length);
        }

        var terms = new GradientTerms { Factor = gradientFactor, Limit = ClipValue > 0 ? (float)ClipValue : float.PositiveInfinity, L2 = 0, Keep = 1 };
        var decayed = terms with { L2 = (float)L2, Keep = (float)(1 - (learningRate * WeightDecay)) };
        var buffers = new UpdateBuffers(
            parameters, gradients, state.Count,
            state.Count > 0 ? state[0] : [], state.Count > 1 ? state[1] : [], state.Count > 2 ? state[2] : []);
        Update(step, learningRate, decayed, buffers[..decayedLength]);
        Update(step, learningRate, terms, buffers[decayedLength..]);
    }

    /// <summary>
    /// Does one step where the buffers lie, with torch's operations: the same numbers to rounding, and the host waits for nothing.
    /// </summary>
    /// <param name="step">The step, from 1.</param>
    /// <param name="learningRate">Learning rate of the step.</param>
    /// <param name="gradientFactor">Multiplies the gradient.</param>
    /// <param name="decayedLength">Elements of the leading range that <see cref="WeightDecay"/> and <see cref="L2"/> apply to.</param>
    /// <param name="parameters">(length), updated.</param>
    /// <param name="gradients">(length), finite; lost.</param>
    /// <param name="state">The buffers of <see cref="StateNames"/>, (length) each; updated.</param>
    public void Update(
        long step, double learningRate, float gradientFactor, int decayedLength, Tensor parameters, Tensor gradients, IReadOnlyList<Tensor> state)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();

        // Before anything is changed: there may be no memory for it.
        var scratch = empty_like(parameters);
        if (gradientFactor != 1)
        {
            gradients.Scale(gradientFactor);
        }

        if (ClipValue > 0)
        {
            using var least = (-(float)ClipValue).ToScalar();
            using var most = ((float)ClipValue).ToScalar();
            gradients.clamp_(least, most);
        }

        if (L2 > 0)
        {
            gradients.narrow(0, 0, decayedLength).AddScaled(parameters.narrow(0, 0, decayedLength), L2);
        }

        Range(0, decayedLength, WeightDecay);
        Range(decayedLength, (int)parameters.numel() - decayedLength, 0);

        void Range(int begin, int length, double weightDecay)
        {
            if (length > 0)
            {
                Tensor Part(Tensor buffer) => buffer.narrow(0, begin, length);
                Update(step, learningRate, weightDecay, Part(parameters), Part(gradients), [.. state.Select(Part)], Part(scratch));
            }
        }
    }

    /// <summary>Decay and the rule by torch's operations, in place, with memory of the same length for what comes up meanwhile.</summary>
    protected abstract void Update(
        long step, double learningRate, double weightDecay, Tensor parameters, Tensor gradients, IReadOnlyList<Tensor> state, Tensor scratch);

    /// <summary>Runs <see cref="UpdatePass"/> with the rule's constants of this step.</summary>
    protected abstract void Update(long step, double learningRate, in GradientTerms terms, UpdateBuffers buffers);
}
