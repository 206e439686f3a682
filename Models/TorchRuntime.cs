using System.Globalization;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using System.Text;
using TorchSharp;

namespace LlmPipeline.Models;

/// <summary>Makes libtorch ready. Every process that computes with torch calls <see cref="Initialize"/> before anything else of torch.</summary>
public static class TorchRuntime
{
    private static readonly Lock Gate = new();
    private static TorchRuntimeOptions? _applied;
    private static string? _fingerprint;

    /// <summary>Loads libtorch and sets its threads and allocator; further calls do nothing.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The number of threads is not in 1..1024.</exception>
    /// <exception cref="DllNotFoundException">libtorch does not load here; the message says which file and why.</exception>
    public static void Initialize(TorchRuntimeOptions? options = null)
    {
        lock (Gate)
        {
            if (_applied is not null)
            {
                return;
            }

            options ??= new TorchRuntimeOptions();
            if (options.Threads is < 1 or > 1024)
            {
                throw new ArgumentOutOfRangeException(nameof(options), options.Threads, $"{TorchRuntimeOptions.Section}:{nameof(options.Threads)} must be in 1..1024.");
            }

            if (OperatingSystem.IsLinux())
            {
                LinuxTorch.Prepare(options);
            }
            else if (!string.IsNullOrEmpty(options.LibraryPath))
            {
                throw new PlatformNotSupportedException($"{TorchRuntimeOptions.Section}:{nameof(options.LibraryPath)} is for Linux. Leave it out here.");
            }

            torch.InitializeDeviceType(DeviceType.CPU);
            torch.set_num_threads(options.Threads);
            torch.set_num_interop_threads(1);
            _fingerprint = ComputeFingerprint(options);
            _applied = options;
        }
    }

    /// <summary>The device that a setting names.</summary>
    /// <param name="device">"auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N".</param>
    /// <exception cref="InvalidOperationException">There is no such device here; the message says what there is.</exception>
    public static torch.Device ResolveDevice(string device)
    {
        ArgumentNullException.ThrowIfNull(device);
        Initialize();
        if (device is "cpu")
        {
            return torch.CPU;
        }

        var count = CudaDeviceCount();
        if (device is "auto")
        {
            return count > 0 ? new torch.Device(DeviceType.CUDA, 0) : torch.CPU;
        }

        var index = 0;
        if (device is not "cuda" && !(device.StartsWith("cuda:", StringComparison.Ordinal)
            && int.TryParse(device.AsSpan(5), NumberStyles.None, CultureInfo.InvariantCulture, out index)))
        {
            throw new InvalidOperationException($"'{device}' is not a device: give auto, cpu, cuda or cuda:N.");
        }

        if (index >= count)
        {
            throw new InvalidOperationException(count == 0
                ? $"Device '{device}' was asked for, but there is no CUDA here (no GPU, no driver, or a build without -p:TorchBackend=cuda). Use cpu or auto."
                : $"Device '{device}' was asked for, but there are only cuda:0 to cuda:{count - 1} here.");
        }

        return new torch.Device(DeviceType.CUDA, index);
    }

    /// <summary>What computes here: processor and instruction set, libtorch build, threads, MKL option. Equal fingerprints give equal bits.</summary>
    public static string Fingerprint
    {
        get
        {
            Initialize();
            return _fingerprint!;
        }
    }

    /// <summary>
    /// What rounds on devices other than the CPU: libtorch build and GPUs. Workers with equal ones get equal bits of elementwise
    /// operations on them.
    /// </summary>
    public static string DeviceFingerprint
    {
        get
        {
            Initialize();
            const string Gpus = "/proc/driver/nvidia/gpus";
            var models = Directory.Exists(Gpus)
                ? Directory.EnumerateFiles(Gpus, "information", SearchOption.AllDirectories).SelectMany(File.ReadLines).Where(line => line.StartsWith("Model:", StringComparison.Ordinal))
                : [];
            return $"libtorch={torch.__version__} bytes={(OperatingSystem.IsLinux() ? LinuxTorch.LibTorchLength : 0)} {string.Join(' ', models.Select(m => m[6..].Trim()).Distinct().Order())}";
        }
    }

    // torch.cuda.is_available() of a CPU build looks for CUDA natives in the package cache and may copy them, so ask for the file first.
    private static int CudaDeviceCount()
    {
        if (OperatingSystem.IsMacOS() || (OperatingSystem.IsLinux() && !LinuxTorch.HasCuda))
        {
            return 0;
        }

        return torch.cuda.is_available() ? torch.cuda.device_count() : 0;
    }

    private static string ComputeFingerprint(TorchRuntimeOptions options)
    {
        List<string> parts = [RuntimeInformation.ProcessArchitecture.ToString().ToLowerInvariant()];
        if (X86Base.IsSupported)
        {
            // Vendor (leaf 0), family, model and stepping (leaf 1), instruction sets (leaf 7): math libraries dispatch on all of them.
            var (_, ebx, ecx, edx) = X86Base.CpuId(0, 0);
            parts.Add(string.Concat(new[] { ebx, edx, ecx }.Select(r => Encoding.ASCII.GetString(BitConverter.GetBytes(r)))));
            parts.Add(Hex(X86Base.CpuId(1, 0).Eax));
            parts.Add(Avx512F.IsSupported ? "avx512" : Avx2.IsSupported ? "avx2" : "sse");
            parts.Add(Hex(X86Base.CpuId(7, 0).Ebx));
            parts.Add(Hex(X86Base.CpuId(7, 1).Eax));
        }

        parts.Add($"libtorch={torch.__version__}");
        if (OperatingSystem.IsLinux())
        {
            parts.Add($"bytes={Text(LinuxTorch.LibTorchLength)}");
        }

        parts.Add($"threads={Text(options.Threads)}");
        if (options.MklAvx512OnAmd && OperatingSystem.IsLinux() && MklDispatch.Applies)
        {
            parts.Add("mkl=avx512");
        }

        if (Environment.GetEnvironmentVariable("ATEN_CPU_CAPABILITY") is { Length: > 0 } capability)
        {
            parts.Add($"aten={capability}");
        }

        return string.Join(' ', parts);

        static string Hex(int value) => value.ToString("x8", CultureInfo.InvariantCulture);
        static string Text(long value) => value.ToString(CultureInfo.InvariantCulture);
    }
}

/// <summary>Settings of <see cref="TorchRuntime"/>; section "Torch".</summary>
public sealed record TorchRuntimeOptions
{
    /// <summary>Name of the configuration section.</summary>
    public const string Section = "Torch";

    /// <summary>Compute threads of the process. One a worker, and more workers, is faster than more threads.</summary>
    public int Threads { get; init; } = 1;

    /// <summary>
    /// Lets MKL take its AVX-512 path on AMD processors that have these instructions: fp32 matrix products are up to 2.4 times
    /// as fast (Zen 5). It answers MKL's question for the processor's vendor with a yes, a check of MKL's maker, so it is off
    /// unless asked for. Linux x64 only; without effect on other processors.
    /// </summary>
    public bool MklAvx512OnAmd { get; init; }

    /// <summary>
    /// Folder with another libtorch, for example the <c>torch/lib</c> of an installed PyTorch (one with CUDA brings CUDA). It is
    /// tested at each start, in a process of its own, and refused, with words, where it does not work with TorchSharp. Linux only.
    /// Empty for the libtorch that comes along. Not set, it is the environment's <c>Torch__LibraryPath</c>, so that programs
    /// without configuration (tests, benches) take the same one.
    /// </summary>
    public string? LibraryPath { get; init; } = Environment.GetEnvironmentVariable($"{Section}__{nameof(LibraryPath)}");
}
