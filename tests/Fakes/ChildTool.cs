using System.Diagnostics;
using Xunit;

namespace LlmPipeline.Fakes;

/// <summary>Runs a program to its end.</summary>
internal static class ChildTool
{
    /// <summary>Runs it in the temporary folder; the test fails with its output when it fails or takes too long.</summary>
    public static async Task RunAsync(string file, string[] arguments, TimeSpan time)
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
