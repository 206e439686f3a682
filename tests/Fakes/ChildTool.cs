using System.Diagnostics;
using Xunit;

namespace LlmPipeline.Fakes;

/// <summary>Runs a program to its end.</summary>
public static class ChildTool
{
    /// <summary>Runs it in the temporary folder; the test fails with its output when it takes too long.</summary>
    /// <returns>Exit code, and what it wrote: output, then errors.</returns>
    public static async Task<(int Code, string Output)> CallAsync(string file, string[] arguments, TimeSpan time)
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

        return (process.ExitCode, string.Join('\n', await output));
    }

    /// <summary>The same; the test also fails when the program does.</summary>
    public static async Task RunAsync(string file, string[] arguments, TimeSpan time)
    {
        var (code, output) = await CallAsync(file, arguments, time);
        Assert.True(code == 0, output);
    }
}
