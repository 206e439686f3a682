using System.Globalization;
using System.Runtime.InteropServices;
using System.Runtime.Loader;
using System.Runtime.Versioning;
using TorchSharp;

namespace LlmPipeline.Models;

/// <summary>
/// What libtorch needs on Linux before its first call: environment and allocator settings that only count when they come first,
/// and natives that load where the C++ runtime is older than the one TorchSharp was built with.
/// </summary>
[SupportedOSPlatform("linux")]
internal static partial class LinuxTorch
{
    private const string Shim = "libLibTorchSharp.so";
    private static nint _torchSharp;

    /// <summary>Whether CUDA natives lie beside libtorch.</summary>
    public static bool HasCuda { get; private set; }

    /// <summary>Handle of <c>libtorch_cpu.so</c>, which exports what TorchSharp has no call for.</summary>
    public static nint LibTorchCpu { get; private set; }

    /// <summary>Handle of <c>libc10_cuda.so</c>; 0 without CUDA.</summary>
    public static nint LibC10Cuda { get; private set; }

    /// <summary>Bytes of <c>libtorch_cpu.so</c>, which tell builds of one version apart.</summary>
    public static long LibTorchLength { get; private set; }

    /// <summary>Sets environment and allocator, loads the natives and answers the runtime's question for <c>LibTorchSharp</c>.</summary>
    public static void Prepare(TorchRuntimeOptions options)
    {
        SetEnvironment(options);
        SetAllocator();
        var isOther = !string.IsNullOrEmpty(options.LibraryPath);
        var packaged = FindNatives(isOther ? [Shim] : [Shim, "libtorch_cpu.so"]);
        var folder = isOther ? Path.GetFullPath(options.LibraryPath!) : packaged;
        if (isOther)
        {
            RequireFiles(folder);
            if (!TorchSelfTest.IsRunning)
            {
                TorchSelfTest.Require(folder);
            }
        }

        if (options.MklAvx512OnAmd && MklDispatch.Applies)
        {
            MklDispatch.TreatAsIntel();
        }

        LibTorchLength = new FileInfo(Resolve(Path.Combine(folder, "libtorch_cpu.so"))).Length;
        HasCuda = File.Exists(Path.Combine(folder, "libtorch_cuda.so"));

        // DT_NEEDED of later files is satisfied by what is already loaded under the same SONAME.
        string[] files = HasCuda
            ? ["libc10.so", "libc10_cuda.so", "libtorch_cpu.so", "libtorch_cuda.so", "libtorch.so"]
            : ["libc10.so", "libtorch_cpu.so", "libtorch.so"];
        var loaded = files.ToDictionary(file => file, file => NativeLibrary.Load(Path.Combine(folder, file)));
        LibTorchCpu = loaded["libtorch_cpu.so"];
        LibC10Cuda = loaded.GetValueOrDefault("libc10_cuda.so");
        var shim = Path.Combine(packaged, Shim);
        var missing = TorchSelfTest.IsRunning ? Missing(shim, folder, [.. loaded.Values]) : null;
        if (missing is not null)
        {
            // A function is looked up when it is first called, and one that is missing then ends the process. None of the test does.
            Console.Error.WriteLine(missing);
        }

        try
        {
            _torchSharp = LoadTorchSharp(shim);
        }
        catch (DllNotFoundException exception) when (missing is not null && exception.Message.Contains("undefined symbol", StringComparison.Ordinal))
        {
            // The loader's message names a copy that is deleted by then, and one of the functions.
            throw new InvalidOperationException($"{Shim} does not load without them", exception);
        }

        AssemblyLoadContext.Default.ResolvingUnmanagedDll += (_, name) => name is "LibTorchSharp" ? _torchSharp : loaded.GetValueOrDefault($"lib{name}.so");
    }

    private static void RequireFiles(string folder)
    {
        foreach (var file in (string[])["libc10.so", "libtorch_cpu.so", "libtorch.so"])
        {
            if (!File.Exists(Path.Combine(folder, file)))
            {
                throw new DllNotFoundException($"{TorchRuntimeOptions.Section}:{nameof(TorchRuntimeOptions.LibraryPath)} is {folder}, but there is no {file} in it. Name the torch/lib folder of a PyTorch.");
            }
        }
    }

    private static string? Missing(string shim, string folder, IReadOnlyList<nint> libraries)
    {
        var imported = ImportedSymbols.Of(File.ReadAllBytes(shim));
        var missing = ImportedSymbols.Missing(imported.Where(name => name != WeakSymbolVersion.Symbol), libraries);
        return missing.Count == 0 ? null
            : $"it is of another version: {missing.Count} of the {imported.Count} functions that TorchSharp knows are missing in {folder}, for example {string.Join(", ", missing.Take(3).Select(ImportedSymbols.Readable))}";
    }

    private static string Resolve(string path) => File.ResolveLinkTarget(path, returnFinalTarget: true)?.FullName ?? path;

    // C setenv: libgomp and MKL read the C environment when they are loaded, which Environment.SetEnvironmentVariable does not reach.
    private static void SetEnvironment(TorchRuntimeOptions options)
    {
        var threads = options.Threads.ToString(CultureInfo.InvariantCulture);
        _ = SetEnvironmentVariable("OMP_WAIT_POLICY", "passive", 0);
        _ = SetEnvironmentVariable("OMP_NUM_THREADS", threads, 1);
        _ = SetEnvironmentVariable("MKL_NUM_THREADS", threads, 1);
    }

    // glibc returns every large block to the kernel at once; kept, a training step has 50 times fewer page faults (7-14 % of its time).
    private static unsafe void SetAllocator()
    {
        const int TrimThreshold = -1, TopPad = -2, MmapThreshold = -3, ArenaMax = -8;
        if (NativeLibrary.TryLoad("libc.so.6", out var libc) && NativeLibrary.TryGetExport(libc, "mallopt", out var address))
        {
            var mallopt = (delegate* unmanaged[Cdecl]<int, int, int>)address;
            _ = mallopt(MmapThreshold, 1 << 30);
            _ = mallopt(TrimThreshold, int.MaxValue);
            _ = mallopt(TopPad, 64 << 20);
            _ = mallopt(ArenaMax, 2);
        }
    }

    private static string FindNatives(string[] files)
    {
        var search = AppContext.GetData("NATIVE_DLL_SEARCH_DIRECTORIES") as string ?? "";
        List<string> folders =
        [
            AppContext.BaseDirectory,
            Path.Combine(AppContext.BaseDirectory, "runtimes", RuntimeInformation.RuntimeIdentifier, "native"),
            Path.GetDirectoryName(typeof(torch).Assembly.Location) ?? "",
            .. search.Split(':', StringSplitOptions.RemoveEmptyEntries),
        ];
        return folders.Find(f => Array.TrueForAll(files, file => File.Exists(Path.Combine(f, file))))
            ?? throw new DllNotFoundException(
                $"{string.Join(" and ", files)} are not beside the program ({AppContext.BaseDirectory}). Import Models/TorchBackend.props in the program's project file; with TorchBackend=none, set {TorchRuntimeOptions.Section}:{nameof(TorchRuntimeOptions.LibraryPath)}.");
    }

    private static nint LoadTorchSharp(string path)
    {
        try
        {
            return NativeLibrary.Load(path);
        }
        catch (DllNotFoundException exception) when (exception.Message.Contains(WeakSymbolVersion.Name, StringComparison.Ordinal))
        {
            return WeakSymbolVersion.LoadCopy(path);
        }
    }

    [LibraryImport("libc", EntryPoint = "setenv", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int SetEnvironmentVariable(string name, string value, int overwrite);
}
