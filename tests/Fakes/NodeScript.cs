using System.Diagnostics;
using Xunit;

namespace LlmPipeline.Fakes;

/// <summary>Runs a script of the folder Node with one npm package, which is installed into the temporary folder.</summary>
public static class NodeScript
{
    private static readonly TimeSpan RunTime = TimeSpan.FromMinutes(2);

    /// <summary>Runs a script, whose first argument is the folder to take the package from; a failure of the script fails the test with its output.</summary>
    public static async Task RunAsync(string package, string version, string script, params string[] arguments)
    {
        Assert.SkipUnless(
            NpmPackage.IsWanted, $"Set LLMPIPELINE_NPM=1 to test with {package} (npm installs it into the temporary folder).");
        var folder = await NpmPackage.InstallAsync(package, version);
        var path = Path.Combine(AppContext.BaseDirectory, "Node", script);
        await RunAsync("node", [path, folder, .. arguments], RunTime);
    }

    private static async Task RunAsync(string file, string[] arguments, TimeSpan time)
    {
        using var process = Process.Start(new ProcessStartInfo(file, arguments)
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = Path.GetTempPath(),
        })!;
        var output = Task.WhenAll(process.StandardOutput.ReadToEndAsync(), process.StandardError.ReadToEndAsync());
        try
        {
            await process.WaitForExitAsync().WaitAsync(time);
        }
        catch (TimeoutException)
        {
            process.Kill(entireProcessTree: true);
            Assert.Fail($"{file} {string.Join(' ', arguments)} did not end within {time}: {string.Join('\n', await output)}");
        }

        Assert.True(process.ExitCode == 0, string.Join('\n', await output));
    }
}
