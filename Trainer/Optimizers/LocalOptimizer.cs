using LlmPipeline.Runs.V1;
using static TorchSharp.torch;

namespace LlmPipeline.Trainer.Optimizers;

/// <summary>
/// The two optimizers of low-communication training. An update is the outer one's, whose gradient is the mean over the shards of old
/// minus new parameters: SGD with Nesterov's momentum (Douillard et al. 2023; without momentum local SGD, Stich 2019). The inner one
/// trains the shards in between; its state lies first among the buffers, where it is kept from round to round.
/// </summary>
/// <param name="inner">What a shard is trained with.</param>
/// <param name="outerMomentum">0 for none.</param>
/// <param name="keepsInnerState">The inner optimizer goes on with the mean of its states after a round; else it begins anew.</param>
internal sealed class LocalOptimizer(Optimizer inner, double outerMomentum, bool keepsInnerState) : Optimizer
{
    /// <summary>Name of the outer momentum's buffer.</summary>
    public const string OuterMomentumName = "outer_momentum";

    private readonly Sgd _outer = new() { Momentum = outerMomentum, Nesterov = outerMomentum > 0 };

    /// <summary>What a shard is trained with.</summary>
    public Optimizer Inner => inner;

    /// <summary>Buffers of the inner optimizer among those that are kept.</summary>
    public int KeptInnerBuffers => keepsInnerState ? inner.StateNames.Count : 0;

    /// <inheritdoc/>
    public override IReadOnlyList<string> StateNames { get; } =
        [.. keepsInnerState ? inner.StateNames : [], .. outerMomentum > 0 ? [OuterMomentumName] : Array.Empty<string>()];

    /// <summary>The optimizers of a resolved spec.</summary>
    public static LocalOptimizer Create(OptimizerSpec optimizer, LocalSpec local) =>
        new(Create(optimizer), local.OuterMomentum, keepsInnerState: local.OptimizerState != "reset");

    /// <inheritdoc/>
    public override void Update(
        long step, double learningRate, float gradientFactor, int decayedLength,
        Span<float> parameters, ReadOnlySpan<float> gradients, IReadOnlyList<float[]> state) =>
        _outer.Update(step, learningRate, gradientFactor, 0, parameters, gradients, [.. state.Skip(KeptInnerBuffers)]);

    /// <inheritdoc/>
    protected override void Update(
        long step, double learningRate, double weightDecay, Tensor parameters, Tensor gradients, IReadOnlyList<Tensor> state, Tensor scratch) =>
        throw new InvalidOperationException("Low-communication training updates on the host.");

    /// <inheritdoc/>
    protected override void Update(long step, double learningRate, in GradientTerms terms, UpdateBuffers buffers) =>
        throw new InvalidOperationException("The outer optimizer has no decayed range.");
}
