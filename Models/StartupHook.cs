using LlmPipeline.Models;

#pragma warning disable CA1050 // The runtime looks for a start-up hook of this name, in no namespace.

/// <summary>What the runtime calls before <c>Main</c> in a process that is to test a libtorch; see <see cref="TorchSelfTest"/>.</summary>
internal static class StartupHook
{
    /// <summary>Tests, and ends the process; does nothing in any other process.</summary>
    public static void Initialize()
    {
        if (OperatingSystem.IsLinux() && Environment.GetEnvironmentVariable(TorchSelfTest.Variable) is { Length: > 0 } folder)
        {
            TorchSelfTest.RunAndExit(folder);
        }
    }
}
