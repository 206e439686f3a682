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
        await ChildTool.RunAsync("node", [path, folder, .. arguments], RunTime);
    }
}
