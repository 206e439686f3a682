using TorchSharp;

namespace LlmPipeline.Models;

/// <summary>
/// All trainable parameters of a model in one 64-byte aligned buffer, gradients in another; each tensor is a view. Tensors with
/// two or more dimensions (which are decayed) come first. The host spans are the truth that exchange, optimizer and checkpoints
/// work on; on the CPU the network computes on the same memory. What is not trained lies in a third buffer, without gradients.
/// </summary>
public abstract class FlatParameters
{
    /// <summary>Elements of the buffers, padding between tensors included (padding is 0 in both and stays 0).</summary>
    public abstract int Length { get; }

    /// <summary>Elements of the leading range that weight decay applies to.</summary>
    public abstract int DecayedLength { get; }

    /// <summary>Trainable numbers, padding not counted.</summary>
    public abstract long ParameterCount { get; }

    /// <summary>The trainable tensors, in buffer order.</summary>
    public abstract IReadOnlyList<ParameterView> Views { get; }

    /// <summary>The tensors that are not trained, in the order of <see cref="FrozenValues"/>.</summary>
    public abstract IReadOnlyList<ParameterView> FrozenViews { get; }

    /// <summary>Parameter values on the host.</summary>
    public abstract Span<float> Values { get; }

    /// <summary>Gradients on the host.</summary>
    public abstract Span<float> Gradients { get; }

    /// <summary>Values of <see cref="FrozenViews"/> on the host.</summary>
    public abstract Span<float> FrozenValues { get; }

    /// <summary>Parameter values where the network computes; on the CPU the memory of <see cref="Values"/>.</summary>
    public abstract torch.Tensor DeviceValues { get; }

    /// <summary>Gradients where the network computes; on the CPU the memory of <see cref="Gradients"/>.</summary>
    public abstract torch.Tensor DeviceGradients { get; }

    /// <summary>Sets all gradients to 0, on host and device.</summary>
    public abstract void ZeroGradients();

    /// <summary>Brings gradients from the device to <see cref="Gradients"/>; nothing to do on the CPU.</summary>
    public abstract void DownloadGradients();

    /// <summary>The same without waiting: the next number that is read from the device waits for it.</summary>
    public abstract void BeginDownload();

    /// <summary>Brings <see cref="Gradients"/> to the device, and waits; nothing to do on the CPU.</summary>
    public abstract void UploadGradients();

    /// <summary>Brings values from the device to <see cref="Values"/>; nothing to do on the CPU.</summary>
    public abstract void DownloadValues();

    /// <summary>Brings <see cref="Values"/> to the device; nothing to do on the CPU. Call after changing values.</summary>
    public abstract void UploadValues();

    /// <summary>Brings <see cref="FrozenValues"/> to the device; nothing to do on the CPU. Call after changing them.</summary>
    public abstract void UploadFrozenValues();

    /// <summary>Values of a tensor on the host, trainable or not; empty when there is none of this name.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="trained">Values of the trainable tensors that stand for <see cref="Values"/>; null for those.</param>
    public Span<float> ValuesOf(string name, float[]? trained = null) =>
        Views.FirstOrDefault(v => v.Name == name) is { } view ? (trained ?? Values).Slice(view.Offset, view.Length)
        : FrozenViews.FirstOrDefault(v => v.Name == name) is { } frozen ? FrozenValues.Slice(frozen.Offset, frozen.Length)
        : default;
}

/// <summary>One tensor of a model.</summary>
/// <param name="Name">Its key in checkpoints, for example <c>transformer.h.0.ln_1.weight</c>.</param>
/// <param name="Shape">Its sizes.</param>
/// <param name="Offset">Its first element in the flat buffer.</param>
/// <param name="Length">Its number of elements.</param>
public sealed record ParameterView(string Name, IReadOnlyList<long> Shape, int Offset, int Length);
