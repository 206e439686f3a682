using static TorchSharp.torch;

namespace LlmPipeline.Models.Networks;

/// <summary>
/// Parts of a pass whose gradient is computed by hand. Such a part gives a tensor without a graph, at which autograd stops;
/// when autograd is through with what follows, the tape goes on from there, newest part first.
/// </summary>
internal sealed class Tape
{
    private readonly Stack<(Tensor Output, Action<Tensor> Backward)> _parts = new();

    /// <summary>Notes a part.</summary>
    /// <param name="output">What it computed, without a graph.</param>
    /// <param name="backward">Takes the gradient of the output, and hands on those of the inputs by <see cref="Continue"/> and <see cref="ContinueProduct"/>.</param>
    /// <returns>The output.</returns>
    public Tensor Cut(Tensor output, Action<Tensor> backward)
    {
        _parts.Push((output.requires_grad_(true), backward));
        return output;
    }

    /// <summary>Goes through the parts, after <c>backward</c> of the loss.</summary>
    public void Backward()
    {
        while (_parts.TryPop(out var part))
        {
            if (part.Output.grad is { } gradient)
            {
                part.Backward(gradient);
            }
        }
    }

    /// <summary>Adds to the gradient of a tensor, and of what it was computed from; nothing where it needs none (frozen parameters).</summary>
    public static void Continue(Tensor tensor, Tensor gradient)
    {
        if (!tensor.requires_grad)
        {
            return;
        }

        if (!tensor.is_leaf)
        {
            using var grad = enable_grad();
            tensor.backward([gradient]);
        }
        else if (tensor.grad is { } sum)
        {
            using var noGrad = no_grad();
            sum.Accumulate(gradient);
        }
        else
        {
            tensor.grad = gradient;
        }
    }

    /// <summary>The same for the gradient <c>a_IN b_NJ</c>; a parameter's is added to in place.</summary>
    public static void ContinueProduct(Tensor tensor_IJ, Tensor a_IN, Tensor b_NJ)
    {
        if (!tensor_IJ.requires_grad)
        {
            return;
        }

        using var noGrad = no_grad();
        if (tensor_IJ.is_leaf && tensor_IJ.grad is { } sum)
        {
            sum.addmm_(a_IN, b_NJ);
        }
        else
        {
            Continue(tensor_IJ, a_IN.mm(b_NJ));
        }
    }
}
