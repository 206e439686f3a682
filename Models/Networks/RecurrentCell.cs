using static TorchSharp.torch;

namespace LlmPipeline.Models.Networks;

// B = batch, H = width of the state, G = gates * H

/// <summary>
/// One time step of a recurrent layer, given the products of its input and of its state with their weights: once in plain ops,
/// for any device, and once by hand with its gradient, for the CPU, where an op costs more than what it computes here.
/// </summary>
internal abstract class RecurrentCell
{
    /// <summary>Name of the architecture.</summary>
    public abstract string Name { get; }

    /// <summary>G / H.</summary>
    public abstract int Gates { get; }

    /// <summary>There is a cell state c beside the state h.</summary>
    public virtual bool HasCellState => false;

    /// <summary>The product with the state is more than an addend to the product with the input, so they are kept apart.</summary>
    public virtual bool KeepsHiddenApart => false;

    /// <summary>Part of the next state that does not go through the weights comes from the state itself.</summary>
    public virtual bool CarriesState => false;

    /// <summary>In plain ops.</summary>
    /// <param name="input_BG">Product with the input, with its bias.</param>
    /// <param name="hidden_BG">Product with the state, with its bias.</param>
    /// <param name="h_BH">State before.</param>
    /// <param name="c_BH">Cell state before.</param>
    /// <returns>The states after.</returns>
    public abstract (Tensor H_BH, Tensor? C_BH) Step(Tensor input_BG, Tensor hidden_BG, Tensor h_BH, Tensor? c_BH);

    /// <summary>By hand: computes <see cref="CellStep.H_BH"/> and <see cref="CellStep.C_BH"/>, and leaves in the products what <see cref="Backward"/> needs.</summary>
    public abstract void Forward(in CellStep step);

    /// <summary>
    /// The gradient of <see cref="Forward"/>. Turns the products into their gradients; takes the gradients of the states after the
    /// step in <see cref="CellStep.HGradient_BH"/> and <see cref="CellStep.CGradient_BH"/>, and leaves there those of the states
    /// before it, for h without what comes through the weights.
    /// </summary>
    public abstract void Backward(in CellStep step);
}

/// <summary>The numbers of one time step, row by row.</summary>
internal readonly ref struct CellStep
{
    /// <summary>H.</summary>
    public required int Width { get; init; }

    /// <summary>Product with the input, sum of both where the cell does not keep them apart.</summary>
    public required Span<float> Input_BG { get; init; }

    /// <summary>Product with the state; the same memory where the cell does not keep them apart.</summary>
    public required Span<float> Hidden_BG { get; init; }

    public required ReadOnlySpan<float> HBefore_BH { get; init; }

    public ReadOnlySpan<float> CBefore_BH { get; init; }

    public required Span<float> H_BH { get; init; }

    public Span<float> C_BH { get; init; }

    /// <summary>Gradient that comes from above, for a backward step.</summary>
    public ReadOnlySpan<float> OutputGradient_BH { get; init; }

    public Span<float> HGradient_BH { get; init; }

    public Span<float> CGradient_BH { get; init; }
}
