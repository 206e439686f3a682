using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using static TorchSharp.torch;

namespace LlmPipeline.Trainer.Optimizers;

/// <summary>
/// RMSProp (Tieleman and Hinton 2012; centered: Graves 2013), as PyTorch's <c>torch.optim.RMSprop</c>: the epsilon is added to
/// the root.
/// </summary>
internal sealed class RmsProp : Optimizer
{
    /// <summary>Decay of the mean of squares.</summary>
    public required double Alpha { get; init; }

    /// <summary>Added to the root.</summary>
    public required double Epsilon { get; init; }

    /// <summary>Divides by the root of the variance instead of that of the mean of squares.</summary>
    public bool Centered { get; init; }

    /// <summary>Decay of the sum of scaled gradients; 0 keeps none.</summary>
    public double Momentum { get; init; }

    /// <inheritdoc/>
    public override IReadOnlyList<string> StateNames =>
        ["square_avg", .. Momentum > 0 ? ["momentum_buffer"] : Array.Empty<string>(), .. Centered ? ["grad_avg"] : Array.Empty<string>()];

    /// <inheritdoc/>
    public override string? MeanSquareName => "square_avg";

    /// <inheritdoc/>
    protected override void Update(long step, double learningRate, in GradientTerms terms, UpdateBuffers buffers) => UpdatePass.Run(
        new Rule
        {
            LearningRate = (float)learningRate,
            Alpha = (float)Alpha,
            AlphaRest = (float)(1 - Alpha),
            Epsilon = (float)Epsilon,
            Momentum = (float)Momentum,
            HasMomentum = Momentum > 0,
            Centered = Centered,
        },
        terms,
        buffers);

    /// <inheritdoc/>
    protected override void Update(
        long step, double learningRate, double weightDecay, Tensor parameters, Tensor gradients, IReadOnlyList<Tensor> state, Tensor scratch)
    {
        if (weightDecay > 0)
        {
            parameters.Scale(1 - (learningRate * weightDecay));
        }

        state[0].Scale(Alpha).AddProduct(gradients, gradients, 1 - Alpha);
        scratch.copy_(state[0]);
        if (Centered)
        {
            // Rounding can leave less than 0 of a variance that is next to nothing.
            var mean = state[^1].Scale(Alpha).AddScaled(gradients, 1 - Alpha);
            scratch.AddProduct(mean, mean, -1).relu_();
        }

        var root = scratch.sqrt_().AddNumber(Epsilon);
        if (Momentum > 0)
        {
            parameters.AddScaled(state[1].Scale(Momentum).AddQuotient(gradients, root, 1), -learningRate);
        }
        else
        {
            parameters.AddQuotient(gradients, root, -learningRate);
        }
    }

    private readonly struct Rule : IUpdateRule
    {
        public required float LearningRate { get; init; }

        public required float Alpha { get; init; }

        public required float AlphaRest { get; init; }

        public required float Epsilon { get; init; }

        public required float Momentum { get; init; }

        public required bool HasMomentum { get; init; }

        public required bool Centered { get; init; }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public Vector512<float> Apply(Vector512<float> p, Vector512<float> g, ref Vector512<float> first, ref Vector512<float> second, ref Vector512<float> third)
        {
            first = (first * Alpha) + (g * g * AlphaRest);
            var square = first;
            if (Centered)
            {
                var mean = HasMomentum ? third : second;
                mean = (mean * Alpha) + (g * AlphaRest);
                (second, third) = HasMomentum ? (second, mean) : (mean, third);

                // Rounding can leave less than 0 of a variance that is next to nothing.
                square = Vector512.MaxNative(square - (mean * mean), Vector512<float>.Zero);
            }

            var scaled = g / (Vector512.Sqrt(square) + Vector512.Create(Epsilon));
            if (!HasMomentum)
            {
                return p - (LearningRate * scaled);
            }

            second = (second * Momentum) + scaled;
            return p - (LearningRate * second);
        }
    }
}
