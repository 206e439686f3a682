using System.Runtime.InteropServices;
using TorchSharp;
using static TorchSharp.torch;

namespace LlmPipeline.Models.Networks;

/// <summary>Tensors that are made on the host.</summary>
internal static class HostTensors
{
    /// <summary>Whole numbers as an int64 tensor on a device.</summary>
    public static Tensor Int64(ReadOnlySpan<int> numbers, Device device)
    {
        var tensor = empty(numbers.Length, int64);
        var values = MemoryMarshal.Cast<byte, long>(tensor.bytes);
        for (var i = 0; i < numbers.Length; i++)
        {
            values[i] = numbers[i];
        }

        return tensor.On(device);
    }

    /// <summary>The tensor on a device; the host does not wait for the copy.</summary>
    public static Tensor On(this Tensor host, Device device) => device.type == DeviceType.CPU ? host : host.pin_memory().to(device, non_blocking: true);
}
