using System.Diagnostics;
using System.Runtime.InteropServices;

namespace LlmPipeline.Bench;

/// <summary>What a result has to say about where it was measured, and where results go.</summary>
internal static class Machine
{
    public static string RepositoryRoot { get; } = FindRoot();

    /// <summary>Real text and reference outputs: <c>LLMPIPELINE_TEST_DATA</c>, else <c>shared/data</c> beside the repository.</summary>
    public static string TestData => Path.GetFullPath(Environment.GetEnvironmentVariable("LLMPIPELINE_TEST_DATA") ?? Path.Combine(RepositoryRoot, "..", "shared", "data"));

    /// <summary>The processor's name.</summary>
    public static string Processor { get; } =
        (OperatingSystem.IsLinux() ? File.ReadLines("/proc/cpuinfo").FirstOrDefault(l => l.StartsWith("model name", StringComparison.Ordinal))?.Split(':')[1].Trim() : null)
        ?? RuntimeInformation.ProcessArchitecture.ToString();

    /// <summary>The short name of the repository's commit, and whether other files than results differ from it.</summary>
    public static async Task<string> CommitAsync()
    {
        var commit = (await OutputOfAsync("git", ["-C", RepositoryRoot, "rev-parse", "--short", "HEAD"])).Trim();
        var changed = await OutputOfAsync("git", ["-C", RepositoryRoot, "status", "--porcelain", "--", ".", ":!bench/results", ":!docs"]);
        return changed.Length == 0 ? commit : $"{commit} with changes";
    }

    /// <summary>Date, commit, processor and runtime, as lines of Markdown.</summary>
    public static async Task<string> DescribeAsync(string command)
    {
        return $"""
            - Command: `{command}`
            - Date: {DateTime.UtcNow:yyyy-MM-dd HH:mm} UTC, commit {await CommitAsync()}
            - Machine: {Processor}, {Environment.ProcessorCount} cores, {RuntimeInformation.OSDescription.Trim()}, {RuntimeInformation.FrameworkDescription}; shared with other jobs
            """;
    }

    /// <summary>The system's load averages of 1, 5 and 15 minutes.</summary>
    public static string LoadAverage() => OperatingSystem.IsLinux() ? string.Join(' ', File.ReadAllText("/proc/loadavg").Split(' ').Take(3)) : "unknown";

    /// <summary>The file of a bench's results.</summary>
    public static string ResultPath(string name) => Path.Combine(RepositoryRoot, "bench", "results", name + ".md");

    /// <summary>Prints a result and writes it to <c>bench/results/NAME.md</c>.</summary>
    public static async Task PublishAsync(string name, string markdown)
    {
        Console.WriteLine();
        Console.WriteLine(markdown);
        Directory.CreateDirectory(Path.GetDirectoryName(ResultPath(name))!);
        await File.WriteAllTextAsync(ResultPath(name), markdown.Replace("\n\n\n", "\n\n", StringComparison.Ordinal) + "\n");
    }

    /// <summary>Standard output of a command that has to succeed.</summary>
    public static async Task<string> OutputOfAsync(string file, IReadOnlyList<string> arguments, string? workingDirectory = null, IReadOnlyDictionary<string, string>? environment = null)
    {
        var start = new ProcessStartInfo(file, arguments) { RedirectStandardOutput = true, WorkingDirectory = workingDirectory ?? "" };
        foreach (var (key, value) in environment ?? new Dictionary<string, string>())
        {
            start.Environment[key] = value;
        }

        using var process = Process.Start(start) ?? throw new InvalidOperationException($"{file} did not start.");
        var output = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        return process.ExitCode == 0 ? output : throw new InvalidOperationException($"{file} {string.Join(' ', arguments)} ended with {process.ExitCode}: {output}");
    }

    private static string FindRoot()
    {
        var folder = new DirectoryInfo(AppContext.BaseDirectory);
        while (folder is not null && !File.Exists(Path.Combine(folder.FullName, "LlmPipeline.sln")))
        {
            folder = folder.Parent;
        }

        return folder?.FullName ?? throw new InvalidOperationException("Run the benches from a clone of the repository.");
    }
}
