using TorchSharp;

namespace LlmPipeline.Models;

// B = batch, T = time, V = vocabulary

/// <summary>An autoregressive network: token ids in, next-token logits out. Not safe for use from two threads at once.</summary>
public abstract class LanguageModel : ITokenModel
{
    /// <summary>A target that is not predicted: it adds nothing to loss, gradient and counts.</summary>
    public const int IgnoredTarget = -100;

    /// <summary>Sizes of the network.</summary>
    public abstract ModelConfig Config { get; }

    /// <inheritdoc/>
    public int VocabularySize => Config.VocabularySize;

    /// <inheritdoc/>
    public int EndOfTextId => Config.EndOfTextId;

    /// <inheritdoc/>
    public int Context => Config.Context;

    /// <inheritdoc/>
    public int? MaxPositions => Config.Context;

    /// <inheritdoc/>
    public long ParameterCount => Parameters.ParameterCount;

    /// <summary>All trainable numbers, in one flat buffer.</summary>
    public abstract FlatParameters Parameters { get; }

    /// <summary>Where it computes.</summary>
    public abstract torch.Device Device { get; }

    /// <summary>Creates a network with fresh weights; the same config and seed give the same bits.</summary>
    /// <exception cref="ArgumentException">The config names sizes that are not possible.</exception>
    public static LanguageModel Create(ModelConfig config, long seed, torch.Device device)
    {
        var model = new Gpt(config, device);
        GptLayout.Initialize(config, seed, model.Parameters);
        return model;
    }

    /// <summary>Next-token logits for every position, without dropout and without a graph.</summary>
    /// <param name="ids_BT">int64, T at most the context length, on any device.</param>
    /// <returns>fp32 (B, T, V); the caller disposes it.</returns>
    public abstract torch.Tensor Forward(torch.Tensor ids_BT);

    /// <summary>
    /// Adds the gradient of <c>lossScale * sum of token losses</c> of one micro-batch to <see cref="FlatParameters.Gradients"/>.
    /// Bit-identical for equal arguments, parameters and <see cref="TorchRuntime.Fingerprint"/> (on the CPU).
    /// </summary>
    /// <param name="inputs_BT">Input ids, row by row.</param>
    /// <param name="targets_BT">The ids to predict, as many; or <see cref="IgnoredTarget"/>.</param>
    /// <param name="batch">B.</param>
    /// <param name="lossScale">One over the predicted tokens of the whole step, over all workers.</param>
    /// <param name="dropoutSeed">Seed of this micro-batch's dropout.</param>
    /// <returns>The mean loss of the micro-batch, in nats per token.</returns>
    /// <exception cref="ArgumentException">The lengths do not fit, or an id is not of the vocabulary.</exception>
    public abstract float AccumulateGradients(ReadOnlySpan<int> inputs_BT, ReadOnlySpan<int> targets_BT, int batch, float lossScale, ulong dropoutSeed);

    /// <summary>Sum of token losses in nats (float64), and the number of tokens whose most likely prediction is right, without dropout.</summary>
    public (double LossSum, long CorrectCount) Evaluate(ReadOnlySpan<int> inputs_BT, ReadOnlySpan<int> targets_BT, int batch)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(batch);
        var lossSums = new double[batch];
        var correctCounts = new long[batch];
        EvaluateSequences(inputs_BT, targets_BT, batch, lossSums, correctCounts);
        var lossSum = 0.0;
        foreach (var sum in lossSums)
        {
            lossSum += sum;
        }

        return (lossSum, correctCounts.Sum());
    }

    /// <summary>
    /// The same for each sequence. On the CPU a sequence's numbers are the same bits in whatever batch it stands; on CUDA they
    /// may differ by rounding.
    /// </summary>
    /// <param name="inputs_BT">Input ids, row by row.</param>
    /// <param name="targets_BT">The ids to predict, as many; or <see cref="IgnoredTarget"/>.</param>
    /// <param name="batch">B.</param>
    /// <param name="lossSums_B">Receives the sums of token losses, in nats.</param>
    /// <param name="correctCounts_B">Receives the numbers of right predictions.</param>
    /// <exception cref="ArgumentException">The lengths do not fit, or an id is not of the vocabulary.</exception>
    public abstract void EvaluateSequences(ReadOnlySpan<int> inputs_BT, ReadOnlySpan<int> targets_BT, int batch, Span<double> lossSums_B, Span<long> correctCounts_B);

    /// <inheritdoc/>
    public abstract IncrementalState BeginGeneration(int batch);

    /// <inheritdoc/>
    public abstract void Dispose();
}
