using System.Runtime.InteropServices;
using TorchSharp;
using static TorchSharp.torch;

namespace LlmPipeline.Models;

/// <summary>
/// A step of AdamW in one pass over memory, as PyTorch's <c>torch.optim.AdamW(fused=True)</c>. TorchSharp has no call for it, so
/// libtorch's own function is called by its C++ name.
/// </summary>
public static unsafe class FusedAdam
{
    private const string Name = "_ZN2at4_ops13_fused_adamw_4callEN3c108ArrayRefINS_6TensorEEES5_S5_S5_S5_S5_dddddbbRKSt8optionalIS4_ES9_";

    private static readonly Lazy<nint> Function = new(static () =>
    {
        TorchRuntime.Initialize();
        return OperatingSystem.IsLinux() && RuntimeInformation.ProcessArchitecture == Architecture.X64 && NativeLibrary.TryGetExport(LinuxTorch.LibTorchCpu, Name, out var address) ? address : 0;
    });

    /// <summary>Whether libtorch has it here: on Linux x64.</summary>
    public static bool IsSupported => Function.Value != 0;

    /// <summary>One step; all tensors are fp32, contiguous, as long as each other and on one device.</summary>
    /// <param name="parameters">Updated; nothing records its gradient.</param>
    /// <param name="gradients">Its gradients.</param>
    /// <param name="firstMoment">Updated.</param>
    /// <param name="secondMoment">Updated.</param>
    /// <param name="step">The step, from 1.</param>
    /// <param name="learningRate">Learning rate.</param>
    /// <param name="beta1">First moment decay.</param>
    /// <param name="beta2">Second moment decay.</param>
    /// <param name="weightDecay">Decoupled decay.</param>
    /// <param name="epsilon">Added to the root of the second moment.</param>
    /// <exception cref="NotSupportedException">See <see cref="IsSupported"/>.</exception>
    public static void Update(
        Tensor parameters, Tensor gradients, Tensor firstMoment, Tensor secondMoment, long step, double learningRate, double beta1, double beta2, double weightDecay, double epsilon)
    {
        if (!IsSupported)
        {
            throw new NotSupportedException("This libtorch has no fused AdamW.");
        }

        using var number = ((float)step).ToScalar();
        using var steps = full([1], number, float32, parameters.device);

        // std::optional<at::Tensor> with nothing in it, twice: neither a scale nor a flag for gradients that overflowed.
        var none = stackalloc long[2];
        (none[0], none[1]) = (0, 0);

        // c10::ArrayRef is a pointer to at::Tensor and a count, by value; a handle is a pointer to an at::Tensor.
        var update = (delegate* unmanaged[Cdecl]<
            nint, nint, nint, nint, nint, nint, nint, nint, nint, nint, nint, nint, double, double, double, double, double, byte, byte, long*, long*, void>)Function.Value;
        update(
            parameters.Handle, 1, gradients.Handle, 1, firstMoment.Handle, 1, secondMoment.Handle, 1, 0, 0, steps.Handle, 1,
            learningRate, beta1, beta2, weightDecay, epsilon, 0, 0, none, none);
    }
}
