using System.Runtime.InteropServices;
using System.Runtime.Versioning;

namespace LlmPipeline.Models.Tests;

[SupportedOSPlatform("linux")]
public sealed class LinuxTorchTests
{
    [Fact]
    public void LinuxSeesThePassiveWaitPolicyInTheEnvironmentOfC()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "The wait policy is set on Linux.");
        TorchRuntime.Initialize();
        Assert.True(NativeLibrary.TryGetExport(NativeLibrary.Load("libc.so.6"), "getenv", out var address));
        Assert.Equal("passive", GetEnvironment(address, "OMP_WAIT_POLICY"));
        Assert.Equal("1", GetEnvironment(address, "MKL_NUM_THREADS"));
    }

    [Fact]
    public void WeakeningChangesTheOneFlagOfTheOneVersion()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "ELF files are Linux's.");
        var path = Path.Combine(AppContext.BaseDirectory, "libLibTorchSharp.so");
        var (before, after) = (File.ReadAllBytes(path), File.ReadAllBytes(path));
        Assert.True(WeakSymbolVersion.TryWeaken(after, WeakSymbolVersion.Name));
        var changed = Enumerable.Range(0, before.Length).Where(i => before[i] != after[i]).ToArray();
        Assert.Single(changed);
        Assert.Equal((0, 2), (before[changed[0]], after[changed[0]]));
        Assert.False(WeakSymbolVersion.TryWeaken(before, "GLIBCXX_9.9"));
    }

    [Fact]
    public void WeakeningLeavesWhatIsNoElfFileAlone()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "ELF files are Linux's.");
        Assert.False(WeakSymbolVersion.TryWeaken([], WeakSymbolVersion.Name));
        var image = File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "libLibTorchSharp.so"));
        Assert.False(WeakSymbolVersion.TryWeaken(image.AsSpan(0, image.Length / 2), WeakSymbolVersion.Name));
        var random = new Random(1);
        for (var n = 0; n < 300; n++)
        {
            var broken = image.AsSpan(0, 4096).ToArray();
            broken[random.Next(0x18, 64)] = (byte)random.Next(256);
            Assert.False(WeakSymbolVersion.TryWeaken(broken, WeakSymbolVersion.Name));
        }
    }

    [Fact]
    public unsafe void TheMadeLibraryLoadsAndItsFunctionsReturnOne()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux() && RuntimeInformation.ProcessArchitecture == Architecture.X64, "The library is for Linux x64.");
        var handle = GeneratedLibrary.Load("libllmpipelinetest.so", MklDispatch.CreateLibrary("libllmpipelinetest.so", ["first_answer", "second_answer", "third_answer"]), NativeLibrary.Load);
        foreach (var name in (string[])["first_answer", "second_answer", "third_answer"])
        {
            Assert.Equal(1, ((delegate* unmanaged[Cdecl]<int>)NativeLibrary.GetExport(handle, name))());
        }

        Assert.False(NativeLibrary.TryGetExport(handle, "fourth_answer", out _));
    }

    [Fact]
    public void ManyLoadAtOnceFromOneCacheAndWithoutOne()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux() && RuntimeInformation.ProcessArchitecture == Architecture.X64, "The library is for Linux x64.");
        var cache = Directory.CreateTempSubdirectory("cache-").FullName;
        try
        {
            var library = MklDispatch.CreateLibrary("libllmpipelinecache.so", ["cache_answer"]);
            Parallel.For(0, 16, _ => Assert.NotEqual(0, GeneratedLibrary.Load("libllmpipelinecache.so", library, NativeLibrary.Load, cache)));
            var written = Directory.GetFiles(cache, "*", SearchOption.AllDirectories);
            Assert.Equal(library, File.ReadAllBytes(Assert.Single(written)));

            // A file where the folder should be.
            var paths = new List<string>();
            GeneratedLibrary.Load("libllmpipelinecache.so", library, path =>
            {
                paths.Add(path);
                return NativeLibrary.Load(path);
            }, written[0]);
            Assert.False(File.Exists(Assert.Single(paths)));
        }
        finally
        {
            Directory.Delete(cache, recursive: true);
        }
    }

    private static unsafe string? GetEnvironment(nint getenv, string name)
    {
        fixed (byte* text = System.Text.Encoding.ASCII.GetBytes(name + '\0'))
        {
            return Marshal.PtrToStringUTF8((nint)((delegate* unmanaged[Cdecl]<byte*, byte*>)getenv)(text));
        }
    }
}
