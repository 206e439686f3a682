namespace LlmPipeline.Fakes;

/// <summary>Packages from npm, installed once into the temporary folder.</summary>
public static class NpmPackage
{
    private static readonly TimeSpan InstallTime = TimeSpan.FromMinutes(5);

    /// <summary>Whether tests may use npm: <c>LLMPIPELINE_NPM</c> is 1.</summary>
    public static bool IsWanted => Environment.GetEnvironmentVariable("LLMPIPELINE_NPM") == "1";

    /// <summary>
    /// The folder whose <c>node_modules</c> holds the package. It is there whole or not at all: an install that was interrupted leaves a
    /// folder of another name.
    /// </summary>
    public static async Task<string> InstallAsync(string package, string version)
    {
        var parent = Directory.CreateDirectory(Path.Combine(Path.GetTempPath(), "llmpipeline-npm", "whole")).FullName;
        var folder = Path.Combine(parent, $"{package.Replace('/', '-')}-{version}");
        if (Directory.Exists(folder))
        {
            return folder;
        }

        var partial = Directory.CreateTempSubdirectory("llmpipeline-npm-").FullName;
        await ChildTool.RunAsync("npm", ["install", "--no-audit", "--no-fund", "--prefix", partial, $"{package}@{version}"], InstallTime);
        try
        {
            Directory.Move(partial, folder);
        }
        catch (IOException) when (Directory.Exists(folder))
        {
            // Another test process was faster.
            Directory.Delete(partial, recursive: true);
        }

        return folder;
    }
}
