using System.Runtime.InteropServices;
using TorchSharp;

namespace LlmPipeline.Models;

/// <summary>
/// Memory of CUDA devices. TorchSharp has no call for it, so the CUDA runtime that libtorch brings along is asked
/// (<c>cudaMemGetInfo</c>), on the device in question.
/// </summary>
public static unsafe class DeviceMemory
{
    private static readonly Lazy<Functions?> Exports = new(Find);

    /// <summary>Bytes of a device's memory that are in use, by all processes; null on the CPU, and where CUDA does not tell.</summary>
    public static long? InUse(torch.Device device)
    {
        ArgumentNullException.ThrowIfNull(device);
        if (device.type != DeviceType.CUDA || Exports.Value is not { } exports)
        {
            return null;
        }

        // As libtorch's own guards: a device on which nothing is held is not begun with by going back to it.
        var former = exports.ExchangeDevice((sbyte)Math.Max(0, device.index));
        try
        {
            nuint free, total;
            return exports.MemoryInfo(&free, &total) == 0 ? (long)(total - free) : null;
        }
        finally
        {
            _ = exports.ExchangeDevice(former);
        }
    }

    private static Functions? Find()
    {
        TorchRuntime.Initialize();

        // A name is looked for in the library and in what it needs, the CUDA runtime among it.
        return OperatingSystem.IsLinux() && LinuxTorch.LibC10Cuda is not 0 and var library
            && NativeLibrary.TryGetExport(library, "cudaMemGetInfo", out var memoryInfo)
            && NativeLibrary.TryGetExport(library, "_ZN3c104cuda19MaybeExchangeDeviceEa", out var exchangeDevice)
            ? new Functions
            {
                MemoryInfo = (delegate* unmanaged[Cdecl]<nuint*, nuint*, int>)memoryInfo,
                ExchangeDevice = (delegate* unmanaged[Cdecl]<sbyte, sbyte>)exchangeDevice,
            }
            : null;
    }

    private sealed class Functions
    {
        /// <summary>cudaError_t cudaMemGetInfo(size_t* free, size_t* total), of the thread's device.</summary>
        public required delegate* unmanaged[Cdecl]<nuint*, nuint*, int> MemoryInfo { get; init; }

        /// <summary>c10::DeviceIndex c10::cuda::MaybeExchangeDevice(c10::DeviceIndex): sets the thread's device and gives the former.</summary>
        public required delegate* unmanaged[Cdecl]<sbyte, sbyte> ExchangeDevice { get; init; }
    }
}
