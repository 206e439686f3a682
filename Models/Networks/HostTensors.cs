using TorchSharp;
using static TorchSharp.torch;

namespace LlmPipeline.Models.Networks;

/// <summary>Tensors that are made on the host.</summary>
internal static class HostTensors
{
    /// <summary>The tensor on a device; the host does not wait for the copy.</summary>
    public static Tensor On(this Tensor host, Device device) => device.type == DeviceType.CPU ? host : host.pin_memory().to(device, non_blocking: true);
}
