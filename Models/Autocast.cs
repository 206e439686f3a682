using System.Runtime.InteropServices;
using TorchSharp;

namespace LlmPipeline.Models;

/// <summary>
/// libtorch's automatic mixed precision on the present thread: matrix products, linear layers and attention take and give 16-bit
/// numbers, all else stays as it is. TorchSharp has no call for it, so libtorch's own functions are called by their C++ names.
/// </summary>
/// <remarks>
/// Casts are not cached: a weight is used once a pass, and nothing can outlive the scope. The backward pass needs no scope; its
/// operations have the types that the forward pass recorded.
/// </remarks>
internal sealed unsafe class Autocast : IDisposable
{
    private const sbyte Half = 5, BFloat16 = 15; // c10::ScalarType

    private static readonly Lazy<Functions> Exports = new(Find);

    private readonly sbyte _device;
    private readonly bool _wasEnabled;
    private readonly bool _wasCached;

    private Autocast(sbyte device, sbyte type)
    {
        var exports = Exports.Value;
        _device = device;
        _wasEnabled = exports.IsEnabled(device) != 0;
        _wasCached = exports.IsCacheEnabled() != 0;
        exports.SetType(device, type);
        exports.SetCacheEnabled(0);
        exports.SetEnabled(device, 1);
    }

    /// <summary>Switches it on until the result is disposed, on the same thread; null for fp32.</summary>
    /// <exception cref="NotSupportedException">See <see cref="Require"/>.</exception>
    public static Autocast? Begin(Precision precision, torch.Device device)
    {
        if (precision == Precision.Fp32)
        {
            return null;
        }

        Require(precision, device);
        return new Autocast((sbyte)device.type, precision == Precision.Bf16 ? BFloat16 : Half);
    }

    /// <summary>Throws unless a precision can be computed in here.</summary>
    /// <exception cref="NotSupportedException">It cannot; the message says why and what to do.</exception>
    public static void Require(Precision precision, torch.Device device)
    {
        if (precision == Precision.Fp16 && device.type != DeviceType.CUDA)
        {
            throw new NotSupportedException($"Precision fp16 is for CUDA, and this is {device}. Take bf16 or fp32.");
        }

        if (precision != Precision.Fp32)
        {
            _ = Exports.Value;
        }
    }

    public void Dispose()
    {
        var exports = Exports.Value;
        exports.SetEnabled(_device, _wasEnabled ? (byte)1 : (byte)0);
        exports.SetCacheEnabled(_wasCached ? (byte)1 : (byte)0);
    }

    private static Functions Find()
    {
        if (!OperatingSystem.IsLinux())
        {
            throw new NotSupportedException("Precisions other than fp32 need libtorch on Linux. Take fp32.");
        }

        TorchRuntime.Initialize();
        return new Functions
        {
            IsEnabled = (delegate* unmanaged[Cdecl]<sbyte, byte>)Export("_ZN2at8autocast19is_autocast_enabledEN3c1010DeviceTypeE"),
            SetEnabled = (delegate* unmanaged[Cdecl]<sbyte, byte, void>)Export("_ZN2at8autocast20set_autocast_enabledEN3c1010DeviceTypeEb"),
            SetType = (delegate* unmanaged[Cdecl]<sbyte, sbyte, void>)Export("_ZN2at8autocast18set_autocast_dtypeEN3c1010DeviceTypeENS1_10ScalarTypeE"),
            IsCacheEnabled = (delegate* unmanaged[Cdecl]<byte>)Export("_ZN2at8autocast25is_autocast_cache_enabledEv"),
            SetCacheEnabled = (delegate* unmanaged[Cdecl]<byte, void>)Export("_ZN2at8autocast26set_autocast_cache_enabledEb"),
        };

        static nint Export(string name) => NativeLibrary.TryGetExport(LinuxTorch.LibTorchCpu, name, out var address) ? address
            : throw new NotSupportedException($"libtorch {torch.__version__} does not have {name}, which precisions other than fp32 need. Take fp32, or libtorch 2.10.");
    }

    private sealed class Functions
    {
        public required delegate* unmanaged[Cdecl]<sbyte, byte> IsEnabled { get; init; }

        public required delegate* unmanaged[Cdecl]<sbyte, byte, void> SetEnabled { get; init; }

        public required delegate* unmanaged[Cdecl]<sbyte, sbyte, void> SetType { get; init; }

        public required delegate* unmanaged[Cdecl]<byte> IsCacheEnabled { get; init; }

        public required delegate* unmanaged[Cdecl]<byte, void> SetCacheEnabled { get; init; }
    }
}
