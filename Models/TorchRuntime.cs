using TorchSharp;

namespace LlmPipeline.Models;

/// <summary>Makes libtorch ready. Every process that computes with torch calls <see cref="Initialize"/> before anything else of torch.</summary>
public static class TorchRuntime
{
    /// <summary>Loads libtorch and sets its threads and allocator; further calls do nothing.</summary>
    public static void Initialize(TorchRuntimeOptions? options = null) => throw new NotImplementedException();

    /// <summary>The device that a setting names.</summary>
    /// <param name="device">"auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N".</param>
    /// <exception cref="InvalidOperationException">There is no such device here; the message says what there is.</exception>
    public static torch.Device ResolveDevice(string device) => throw new NotImplementedException();

    /// <summary>What computes here: CPU instruction set, libtorch version, threads, MKL option. Equal fingerprints give equal bits.</summary>
    public static string Fingerprint => throw new NotImplementedException();
}

/// <summary>Settings of <see cref="TorchRuntime"/>; section "Torch".</summary>
public sealed record TorchRuntimeOptions
{
    /// <summary>Name of the configuration section.</summary>
    public const string Section = "Torch";

    /// <summary>Compute threads of the process. One a worker, and more workers, is faster than more threads.</summary>
    public int Threads { get; init; } = 1;

    /// <summary>
    /// Lets MKL take its AVX-512 path on AMD processors: fp32 matrix products are 2.4 times as fast. It overrides a check of
    /// MKL's vendor, so it is off unless asked for.
    /// </summary>
    public bool MklAvx512OnAmd { get; init; }
}
