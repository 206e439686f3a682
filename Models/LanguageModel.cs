using TorchSharp;

namespace LlmPipeline.Models;

// B = batch, T = time, V = vocabulary

/// <summary>An autoregressive network: token ids in, next-token logits out. Not safe for use from two threads at once.</summary>
public abstract class LanguageModel : IDisposable
{
    /// <summary>Sizes of the network.</summary>
    public abstract ModelConfig Config { get; }

    /// <summary>All trainable numbers, in one flat buffer.</summary>
    public abstract FlatParameters Parameters { get; }

    /// <summary>Where it computes.</summary>
    public abstract torch.Device Device { get; }

    /// <summary>Creates a network with fresh weights; the same config and seed give the same bits.</summary>
    public static LanguageModel Create(ModelConfig config, long seed, torch.Device device) => throw new NotImplementedException();

    /// <summary>Next-token logits for every position, without dropout and without a graph.</summary>
    /// <param name="ids_BT">int64, T at most the context length, on any device.</param>
    /// <returns>fp32 (B, T, V); the caller disposes it.</returns>
    public abstract torch.Tensor Forward(torch.Tensor ids_BT);

    /// <summary>
    /// Adds the gradient of <c>lossScale * sum of token losses</c> of one micro-batch to <see cref="FlatParameters.Gradients"/>.
    /// Bit-identical for equal arguments, parameters and <see cref="TorchRuntime.Fingerprint"/>.
    /// </summary>
    /// <param name="inputs_BT">Input ids, row by row.</param>
    /// <param name="targets_BT">The ids to predict, as many.</param>
    /// <param name="batch">B.</param>
    /// <param name="lossScale">One over the predicted tokens of the whole step, over all workers.</param>
    /// <param name="dropoutSeed">Seed of this micro-batch's dropout.</param>
    /// <returns>The mean loss of the micro-batch, in nats per token.</returns>
    public abstract float AccumulateGradients(ReadOnlySpan<int> inputs_BT, ReadOnlySpan<int> targets_BT, int batch, float lossScale, ulong dropoutSeed);

    /// <summary>Sum of token losses in nats (float64), and the number of tokens whose most likely prediction is right, without dropout.</summary>
    public abstract (double LossSum, long CorrectCount) Evaluate(ReadOnlySpan<int> inputs_BT, ReadOnlySpan<int> targets_BT, int batch);

    /// <summary>Begins a generation of <paramref name="batch"/> sequences with a key-value cache.</summary>
    public abstract IncrementalState BeginGeneration(int batch);

    /// <inheritdoc/>
    public abstract void Dispose();
}

/// <summary>The cache of a generation. Positions beyond the context length are the caller's to avoid: begin again with the newest ids.</summary>
public abstract class IncrementalState : IDisposable
{
    /// <summary>Positions held.</summary>
    public abstract int Length { get; }

    /// <summary>Appends T ids to each sequence and returns the logits after the last of them.</summary>
    /// <param name="ids_BT">Row by row; every sequence gets as many.</param>
    /// <param name="logits_BV">Receives the logits, row by row.</param>
    public abstract void Append(ReadOnlySpan<int> ids_BT, Span<float> logits_BV);

    /// <inheritdoc/>
    public abstract void Dispose();
}

/// <summary>Sizes of a network.</summary>
public sealed record ModelConfig
{
    /// <summary>"gpt2".</summary>
    public string Architecture { get; init; } = "gpt2";

    /// <summary>Number of ids.</summary>
    public required int VocabularySize { get; init; }

    /// <summary>Number of blocks.</summary>
    public required int Layers { get; init; }

    /// <summary>Number of attention heads; divides <see cref="Width"/>.</summary>
    public required int Heads { get; init; }

    /// <summary>Channels of the residual stream.</summary>
    public required int Width { get; init; }

    /// <summary>Context length in tokens.</summary>
    public required int Context { get; init; }

    /// <summary>Dropout probability in training.</summary>
    public double Dropout { get; init; }

    /// <summary>Biases in linear layers and LayerNorms.</summary>
    public bool Bias { get; init; } = true;

    /// <summary>Id of <c>&lt;|endoftext|&gt;</c>.</summary>
    public int EndOfTextId { get; init; }
}
