namespace LlmPipeline.Bench.Measuring;

/// <summary>Peers from npm, installed once into a cache folder.</summary>
internal static class Npm
{
    /// <summary>A folder whose <c>node_modules</c> holds the packages, given as <c>name@version</c>.</summary>
    public static async Task<string> InstallAsync(params IReadOnlyList<string> packages)
    {
        var folder = Path.Combine(Path.GetTempPath(), "llmpipeline-bench", string.Join('+', packages).Replace('/', '_'));
        if (!File.Exists(Path.Combine(folder, "installed")))
        {
            Directory.CreateDirectory(folder);
            await Machine.OutputOfAsync("npm", ["install", "--prefix", folder, "--no-fund", "--no-audit", "--silent", .. packages]);
            await File.WriteAllTextAsync(Path.Combine(folder, "installed"), "");
        }

        return folder;
    }
}
