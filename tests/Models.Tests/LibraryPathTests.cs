using System.Diagnostics;
using System.Runtime.Versioning;

namespace LlmPipeline.Models.Tests;

[SupportedOSPlatform("linux")]
public sealed class LibraryPathTests
{
    private const string DebianTorch = "/usr/lib/python3/dist-packages/torch/lib";

    [Fact]
    public void ALibTorchInAnotherFolderPassesTheSelfTest()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Torch:LibraryPath is Linux's.");
        var folder = Directory.CreateTempSubdirectory("libtorch-").FullName;
        try
        {
            foreach (var file in Directory.GetFiles(AppContext.BaseDirectory, "lib*.so*").Where(f => !Path.GetFileName(f).Contains("TorchSharp", StringComparison.Ordinal)))
            {
                File.CreateSymbolicLink(Path.Combine(folder, Path.GetFileName(file)), file);
            }

            TorchSelfTest.Require(folder);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public void ALibTorchOfAnotherVersionIsRefusedWithWords()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux() && File.Exists(Path.Combine(DebianTorch, "libtorch_cpu.so")), "Debian's python3-torch is not installed.");
        var message = Assert.Throws<DllNotFoundException>(() => TorchSelfTest.Require(DebianTorch)).Message;
        Assert.Contains(DebianTorch, message, StringComparison.Ordinal);
        Assert.Contains("of another version", message, StringComparison.Ordinal);
        Assert.Contains("at::", message, StringComparison.Ordinal);
        Assert.DoesNotContain("_ZN", message, StringComparison.Ordinal);
        Assert.DoesNotContain("LD_DEBUG", message, StringComparison.Ordinal);
        Assert.Contains("leave the setting out", message, StringComparison.Ordinal);
    }

    [Fact]
    public void AFileThatIsNoLibraryIsRefusedWithWords()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Torch:LibraryPath is Linux's.");
        var folder = Directory.CreateTempSubdirectory("libtorch-").FullName;
        try
        {
            Assert.Contains("there is no libc10.so in it", Assert.Throws<DllNotFoundException>(() => TorchSelfTest.Require(folder)).Message, StringComparison.Ordinal);
            foreach (var file in (string[])["libc10.so", "libtorch_cpu.so", "libtorch.so"])
            {
                File.WriteAllText(Path.Combine(folder, file), "no library");
            }

            Assert.Contains("which is refused", Assert.Throws<DllNotFoundException>(() => TorchSelfTest.Require(folder)).Message, StringComparison.Ordinal);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public void TheSymbolsThatTorchSharpNeedsAreThereInItsOwnLibTorch()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "ELF files are Linux's.");
        TorchRuntime.Initialize();
        var imported = ImportedSymbols.Of(File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "libLibTorchSharp.so")));
        Assert.InRange(imported.Count, 1000, 3000);
        Assert.Empty(ImportedSymbols.Missing(imported.Where(name => name != WeakSymbolVersion.Symbol), LinuxTorch.LibTorchCpu));
        Assert.Equal(["_ZN2at6absentEv"], ImportedSymbols.Missing(["_ZN2at6absentEv", imported.First(n => n.StartsWith("_ZN2at", StringComparison.Ordinal))], LinuxTorch.LibTorchCpu));
        Assert.Throws<InvalidDataException>(() => ImportedSymbols.Of("no library"u8));
    }

    [Theory]
    [InlineData("_ZN2at4_ops18linalg_vector_norm4callERKNS_6TensorE", "at::_ops::linalg_vector_norm::call")]
    [InlineData("_ZNK2at6Tensor3sumEv", "at::Tensor::sum")]
    [InlineData("_ZN2at99short", "_ZN2at99short")]
    [InlineData("_ZN2at99999999999999999999x", "_ZN2at99999999999999999999x")]
    [InlineData("_ZNSt6vectorIlE4sizeEv", "_ZNSt6vectorIlE4sizeEv")]
    [InlineData("_ZN2at5", "_ZN2at5")]
    [InlineData("malloc", "malloc")]
    public void FunctionsAreNamedAsInCode(string symbol, string name) => Assert.Equal(name, ImportedSymbols.Readable(symbol));

    [Theory]
    [InlineData("cpu", "libtorch-cpu-linux-x64", "TorchSharp-cuda-linux")]
    [InlineData("cuda", "TorchSharp-cuda-linux", "libtorch-cpu-linux-x64")]
    [InlineData("none", "Grpc.AspNetCore", "libtorch-cpu-linux-x64")]
    [InlineData("none", "Grpc.AspNetCore", "TorchSharp-cuda-linux")]
    public async Task EachTorchBackendTakesItsPackages(string backend, string expected, string other)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux() && System.Runtime.InteropServices.RuntimeInformation.OSArchitecture == System.Runtime.InteropServices.Architecture.X64, "The packages named are those of Linux x64.");
        var project = Path.Combine(RepositoryRoot(), "Trainer", "Trainer.csproj");
        var packages = await OutputOfAsync("dotnet", "msbuild", project, "-getItem:PackageReference", $"-p:TorchBackend={backend}", "-nodeReuse:false");
        Assert.Contains($"\"{expected}\"", packages, StringComparison.Ordinal);
        Assert.DoesNotContain($"\"{other}\"", packages, StringComparison.Ordinal);
    }

    private static async Task<string> OutputOfAsync(string file, params string[] arguments)
    {
        using var process = Process.Start(new ProcessStartInfo(file, arguments) { RedirectStandardOutput = true })!;
        var output = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        Assert.Equal(0, process.ExitCode);
        return output;
    }

    private static string RepositoryRoot()
    {
        var folder = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(folder!.FullName, "LlmPipeline.sln")))
        {
            folder = folder.Parent;
        }

        return folder.FullName;
    }
}
