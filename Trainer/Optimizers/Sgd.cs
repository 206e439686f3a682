using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using static TorchSharp.torch;

namespace LlmPipeline.Trainer.Optimizers;

/// <summary>
/// Stochastic gradient descent, with momentum (Polyak 1964) or Nesterov's (in the form of Sutskever et al. 2013), as PyTorch's
/// <c>torch.optim.SGD</c>.
/// </summary>
internal sealed class Sgd : Optimizer
{
    /// <summary>Decay of the sum of gradients; 0 keeps none.</summary>
    public double Momentum { get; init; }

    /// <summary>What is taken off a gradient before it is added to the sum; the first one is added whole.</summary>
    public double Dampening { get; init; }

    /// <summary>Looks one step of the momentum ahead.</summary>
    public bool Nesterov { get; init; }

    /// <inheritdoc/>
    public override IReadOnlyList<string> StateNames => Momentum > 0 ? ["momentum_buffer"] : [];

    /// <inheritdoc/>
    protected override void Update(long step, double learningRate, in GradientTerms terms, UpdateBuffers buffers)
    {
        if (Momentum > 0)
        {
            UpdatePass.Run(
                new MomentumRule
                {
                    LearningRate = (float)learningRate,
                    Momentum = (float)Momentum,
                    GradientShare = step == 1 ? 1 : (float)(1 - Dampening),
                    Nesterov = Nesterov,
                },
                terms,
                buffers);
        }
        else
        {
            UpdatePass.Run(new PlainRule { LearningRate = (float)learningRate }, terms, buffers);
        }
    }

    /// <inheritdoc/>
    protected override void Update(
        long step, double learningRate, double weightDecay, Tensor parameters, Tensor gradients, IReadOnlyList<Tensor> state, Tensor scratch)
    {
        if (weightDecay > 0)
        {
            parameters.Scale(1 - (learningRate * weightDecay));
        }

        if (Momentum == 0)
        {
            parameters.AddScaled(gradients, -learningRate);
            return;
        }

        state[0].Scale(Momentum).AddScaled(gradients, step == 1 ? 1 : 1 - Dampening);
        parameters.AddScaled(Nesterov ? gradients.AddScaled(state[0], Momentum) : state[0], -learningRate);
    }

    private readonly struct PlainRule : IUpdateRule
    {
        public required float LearningRate { get; init; }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public Vector512<float> Apply(Vector512<float> p, Vector512<float> g, ref Vector512<float> first, ref Vector512<float> second, ref Vector512<float> third) =>
            p - (LearningRate * g);
    }

    private readonly struct MomentumRule : IUpdateRule
    {
        public required float LearningRate { get; init; }

        public required float Momentum { get; init; }

        public required float GradientShare { get; init; }

        public required bool Nesterov { get; init; }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public Vector512<float> Apply(Vector512<float> p, Vector512<float> g, ref Vector512<float> first, ref Vector512<float> second, ref Vector512<float> third)
        {
            first = (first * Momentum) + (g * GradientShare);
            return p - (LearningRate * (Nesterov ? g + (first * Momentum) : first));
        }
    }
}
