using System.Collections.Concurrent;
using System.Diagnostics;
using TorchSharp;
using static TorchSharp.torch;

namespace LlmPipeline.Models;

/// <summary>
/// What a device does at most: the rate of a large matrix product, measured, with the threads that are configured. Model FLOPS
/// utilization (MFU; Chowdhery et al. 2022, PaLM, appendix B) is <see cref="LanguageModel.FlopsPerToken"/> times tokens per
/// second, divided by it.
/// </summary>
public static class ComputeCeiling
{
    private const int SmallestSide = 256;
    private const int LargestSide = 8192;
    private const int Repetitions = 5;
    private static readonly TimeSpan LongestProduct = TimeSpan.FromMilliseconds(60);
    private static readonly ConcurrentDictionary<(DeviceType, int, Precision), Lazy<double>> Measured = new();

    /// <summary>
    /// Floating-point operations per second, multiplications and additions counted apart. Measured in a fraction of a second
    /// when it is first asked for, then remembered.
    /// </summary>
    public static double FlopsPerSecond(Device device, Precision precision)
    {
        ArgumentNullException.ThrowIfNull(device);
        return Measured.GetOrAdd((device.type, device.index, precision), _ => new Lazy<double>(() => Measure(device, precision))).Value;
    }

    // Products of twice the side each time, until one takes long enough to be a fair sample; of that size, the fastest.
    private static double Measure(Device device, Precision precision)
    {
        TorchRuntime.Initialize();
        var side = SmallestSide;
        var best = Time(device, precision, side, 2);
        while (side < LargestSide && 8 * best < LongestProduct)
        {
            side *= 2;
            best = Time(device, precision, side, side == SmallestSide * 2 ? 2 : 1);
        }

        var again = Time(device, precision, side, Repetitions);
        return 2.0 * side * side * side / Math.Min(best.TotalSeconds, again.TotalSeconds);
    }

    private static TimeSpan Time(Device device, Precision precision, int side, int repetitions)
    {
        using var scope = NewDisposeScope();
        using var inference = inference_mode();
        var type = precision switch { Precision.Bf16 => bfloat16, Precision.Fp16 => float16, _ => float32 };

        // Not one number throughout: a GPU is faster with those.
        var a = rand([side, side], type, device);
        var b = rand([side, side], type, device);
        var result = empty([side, side], type, device);
        Wait(result);
        var best = TimeSpan.MaxValue;
        for (var i = 0; i < repetitions; i++)
        {
            var start = Stopwatch.GetTimestamp();
            using var product = a.mm(b);
            Wait(product);
            var elapsed = Stopwatch.GetElapsedTime(start);
            best = elapsed < best ? elapsed : best;
        }

        return best;
    }

    // On CUDA a product is only queued when its call returns; reading a number of it waits.
    private static void Wait(Tensor tensor)
    {
        if (tensor.device_type != DeviceType.CPU)
        {
            using var last = tensor[-1, -1].cpu();
        }
    }
}
