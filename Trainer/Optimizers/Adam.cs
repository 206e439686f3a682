using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using LlmPipeline.Models;
using static TorchSharp.torch;

namespace LlmPipeline.Trainer.Optimizers;

/// <summary>
/// Adam (Kingma and Ba 2015) and, with decoupled decay in place of L2, AdamW (Loshchilov and Hutter 2019), as PyTorch's
/// <c>torch.optim.Adam</c> and <c>AdamW</c>.
/// </summary>
internal sealed class Adam : Optimizer
{
    /// <summary>First moment decay.</summary>
    public required double Beta1 { get; init; }

    /// <summary>Second moment decay.</summary>
    public required double Beta2 { get; init; }

    /// <summary>Added to the root of the second moment.</summary>
    public required double Epsilon { get; init; }

    /// <summary>On a device in one pass over memory, where libtorch has that.</summary>
    public bool IsFused { get; set; } = true;

    /// <inheritdoc/>
    public override IReadOnlyList<string> StateNames { get; } = ["exp_avg", "exp_avg_sq"];

    /// <inheritdoc/>
    public override string? MeanSquareName => "exp_avg_sq";

    /// <inheritdoc/>
    protected override void Update(long step, double learningRate, in GradientTerms terms, UpdateBuffers buffers) => UpdatePass.Run(
        new Rule
        {
            Beta1Rest = (float)(1 - Beta1),
            Beta2 = (float)Beta2,
            Beta2Rest = (float)(1 - Beta2),
            Epsilon = (float)Epsilon,
            StepSize = (float)(learningRate / (1 - Math.Pow(Beta1, step))),
            InverseRootCorrection = (float)(1 / Math.Sqrt(1 - Math.Pow(Beta2, step))),
        },
        terms,
        buffers);

    /// <inheritdoc/>
    protected override void Update(
        long step, double learningRate, double weightDecay, Tensor parameters, Tensor gradients, IReadOnlyList<Tensor> state, Tensor scratch)
    {
        if (IsFused && FusedAdam.IsSupported)
        {
            FusedAdam.Update(parameters, gradients, state[0], state[1], step, learningRate, Beta1, Beta2, weightDecay, Epsilon);
            return;
        }

        if (weightDecay > 0)
        {
            parameters.Scale(1 - (learningRate * weightDecay));
        }

        state[0].Scale(Beta1).AddScaled(gradients, 1 - Beta1);
        state[1].Scale(Beta2).AddProduct(gradients, gradients, 1 - Beta2);
        var root = scratch.copy_(state[1]).sqrt_().Scale(1 / Math.Sqrt(1 - Math.Pow(Beta2, step))).AddNumber(Epsilon);
        parameters.AddQuotient(state[0], root, -learningRate / (1 - Math.Pow(Beta1, step)));
    }

    private readonly struct Rule : IUpdateRule
    {
        public required float Beta1Rest { get; init; }

        public required float Beta2 { get; init; }

        public required float Beta2Rest { get; init; }

        public required float Epsilon { get; init; }

        public required float StepSize { get; init; }

        public required float InverseRootCorrection { get; init; }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public Vector512<float> Apply(Vector512<float> p, Vector512<float> g, ref Vector512<float> first, ref Vector512<float> second, ref Vector512<float> third)
        {
            first += (g - first) * Beta1Rest;
            second = (second * Beta2) + (g * g * Beta2Rest);
            return p - (StepSize * first / ((Vector512.Sqrt(second) * InverseRootCorrection) + Vector512.Create(Epsilon)));
        }
    }
}
