using static TorchSharp.torch;

namespace LlmPipeline.Models.Networks;

/// <summary>What the parts of a network know of the pass that they take part in.</summary>
/// <param name="Batch">B.</param>
internal sealed record Pass(int Batch)
{
    /// <summary>Null outside of training.</summary>
    public Dropout? Dropout { get; init; }

    /// <summary>Takes the parts whose gradient is computed by hand; null where none is computed.</summary>
    public Tape? Tape { get; init; }

    /// <summary>Is told of each part whose gradients are whole; null where nobody wants to know.</summary>
    public Action<int>? PartDone { get; init; }

    /// <summary>
    /// (B, 1, 1, T): 0 where there is text, minus infinity where a shorter sequence of the batch is filled up. Null where nothing
    /// is, or where no position looks at those behind it.
    /// </summary>
    public Tensor? Padding_B11T { get; init; }

    /// <summary>Position of the first of the T ids.</summary>
    public int Start { get; init; }

    /// <summary>What each part keeps of the ids before, in a generation; see <see cref="LanguageModel.BeginPart"/>.</summary>
    public IReadOnlyList<IDisposable?>? Parts { get; init; }

    /// <summary>What block <paramref name="index"/> keeps; null outside of a generation.</summary>
    public T? OfBlock<T>(int index)
        where T : class => (T?)Parts?[index + 1];
}
