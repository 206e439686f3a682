using LlmPipeline.Models.Networks;
using TorchSharp;

namespace LlmPipeline.Models.Tests;

public sealed class TorchRuntimeTests
{
    [Fact]
    public void TorchComputesAfterInitialize()
    {
        TorchRuntime.Initialize();
        using var four = torch.tensor(2f).Plus(torch.tensor(2f));
        Assert.Equal(4f, four.item<float>());
        Assert.Equal(1, torch.get_num_threads());
    }

    [Fact]
    public void InitializeFromManyThreadsIsOneInitialization()
    {
        Parallel.For(0, 8, _ => TorchRuntime.Initialize());
        Assert.Equal(TorchRuntime.Fingerprint, TorchRuntime.Fingerprint);
        Assert.Contains("threads=1", TorchRuntime.Fingerprint, StringComparison.Ordinal);
        Assert.Contains("libtorch=2.", TorchRuntime.Fingerprint, StringComparison.Ordinal);
    }

    [Fact]
    public void DevicesAreNamedAsInTorch()
    {
        Assert.Equal(DeviceType.CPU, TorchRuntime.ResolveDevice("cpu").type);
        var cuda = TorchRuntime.ResolveDevice("auto").type == DeviceType.CUDA;
        Assert.Contains("auto, cpu, cuda or cuda:N", Assert.Throws<InvalidOperationException>(() => TorchRuntime.ResolveDevice("gpu")).Message, StringComparison.Ordinal);
        Assert.Throws<InvalidOperationException>(() => TorchRuntime.ResolveDevice("cuda:-1"));
        Assert.Throws<InvalidOperationException>(() => TorchRuntime.ResolveDevice("cuda:9999"));
        if (!cuda)
        {
            Assert.Contains("no CUDA here", Assert.Throws<InvalidOperationException>(() => TorchRuntime.ResolveDevice("cuda")).Message, StringComparison.Ordinal);
        }
    }
}
