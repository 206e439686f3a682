using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Runtime.CompilerServices;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Text.Tests.Sources;

/// <summary>What another process read, and how much memory it ever took.</summary>
/// <param name="Documents">Number of documents.</param>
/// <param name="Characters">Their characters.</param>
/// <param name="Longest">Characters of the longest.</param>
/// <param name="Skipped">Records left out.</param>
/// <param name="PeakBytes">Peak of its resident memory.</param>
internal sealed record ReaderResult(long Documents, long Characters, long Longest, long Skipped, long PeakBytes);

/// <summary>This program once more, as a process that reads sources and measures itself.</summary>
internal static class ReaderProcess
{
    private const string Variable = "LLMPIPELINE_READER_CHILD";

    /// <summary>Reads a source, invalid records skipped. Linux only: the peak is what the kernel says.</summary>
    public static async Task<ReaderResult> ReadAsync(string source)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "The peak of memory is read from /proc.");
        var program = Path.Combine(AppContext.BaseDirectory, typeof(ReaderProcess).Assembly.GetName().Name + ".dll");
        var dotnet = Path.GetFileNameWithoutExtension(Environment.ProcessPath) == "dotnet" ? Environment.ProcessPath! : "dotnet";
        using var process = Process.Start(new ProcessStartInfo(dotnet, [program]) { RedirectStandardOutput = true, Environment = { [Variable] = source } })!;
        try
        {
            var output = await process.StandardOutput.ReadToEndAsync().WaitAsync(SourceReading.Patience);
            await process.WaitForExitAsync().WaitAsync(SourceReading.Patience);
            Assert.Equal(0, process.ExitCode);
            var numbers = output.Split(' ').Select(n => long.Parse(n, CultureInfo.InvariantCulture)).ToArray();
            return new ReaderResult(numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]);
        }
        finally
        {
            process.Kill();
        }
    }

    // Runs before the program's entry point.
    [ModuleInitializer]
    [SuppressMessage("Usage", "CA2255", Justification = "This is a program, not a library.")]
    internal static void RunWhenAsked()
    {
        if (Environment.GetEnvironmentVariable(Variable) is not { Length: > 0 } source)
        {
            return;
        }

        var (documents, characters, longest, skipped) = (0L, 0L, 0L, 0L);
        var reader = new PieceReader(new SourceOptions(), "text", InvalidRecords.Skip);
        var parser = new PieceParser("text", InvalidRecords.Skip);
        var files = SourceFiles.FindAsync([source], new SourceOptions());
        foreach (var unit in SourceUnits.Plan(files.GetAwaiter().GetResult(), 16 << 20))
        {
            foreach (var piece in reader.ReadAsync(unit).ToBlockingEnumerable())
            {
                var parsed = parser.Parse(piece);
                skipped += parsed.Skipped.Count;
                foreach (var document in parsed.Documents)
                {
                    documents++;
                    characters += document.Text.Length;
                    longest = Math.Max(longest, document.Text.Length);
                }
            }
        }

        var peak = File.ReadLines("/proc/self/status").First(l => l.StartsWith("VmHWM:", StringComparison.Ordinal)).Split(' ', StringSplitOptions.RemoveEmptyEntries)[1];
        Console.Write(string.Create(CultureInfo.InvariantCulture, $"{documents} {characters} {longest} {skipped} {long.Parse(peak, CultureInfo.InvariantCulture) << 10}"));
        Console.Out.Flush();
        Environment.Exit(0);
    }
}
