using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;

namespace LlmPipeline.Bench.Measuring;

/// <summary>One timed run.</summary>
/// <param name="WallSeconds">Elapsed time.</param>
/// <param name="CpuSeconds">User and system time, of all threads.</param>
/// <param name="PeakBytes">Largest resident set; 0 where it was not measured.</param>
/// <param name="Output">What it printed.</param>
internal sealed record Measurement(double WallSeconds, double CpuSeconds, long PeakBytes, string Output);

/// <summary>
/// Runs a command as a process and measures it as the system sees it. A side that times only a part of itself prints lines
/// <c>wall_seconds=</c>, <c>cpu_seconds=</c> and <c>peak_bytes=</c>, which then count instead.
/// </summary>
internal static class MeasuredProcess
{
    private const int RusageChildren = -1;

    /// <summary>Runs a hidden command of this program in a process of its own.</summary>
    public static Task<Measurement> RunSelfAsync(params IReadOnlyList<string> arguments)
    {
        var command = SelfCommand(arguments);
        return RunAsync(command[0], command[1..]);
    }

    /// <summary>File and arguments of a hidden command of this program.</summary>
    public static string[] SelfCommand(params IReadOnlyList<string> arguments) =>
        [Environment.ProcessPath!, .. Path.GetFileNameWithoutExtension(Environment.ProcessPath) == "dotnet" ? [typeof(MeasuredProcess).Assembly.Location] : Array.Empty<string>(), .. arguments];

    /// <summary>Runs a command on one core, with one thread of torch; PyTorch's OpenBLAS takes its AVX-512 path.</summary>
    public static Task<Measurement> RunPinnedAsync(string file, IReadOnlyList<string> arguments) =>

        // The last core: the first one takes most interrupts.
        RunAsync("taskset", ["-c", $"{Environment.ProcessorCount - 1}", file, .. arguments],
            environment: new Dictionary<string, string> { ["OPENBLAS_CORETYPE"] = "SKYLAKEX", ["OMP_NUM_THREADS"] = "1" });

    /// <summary>Largest resident set of this process so far.</summary>
    public static long OwnPeakBytes() => PeakBytesOf(Environment.ProcessId);

    /// <summary>Runs a command that has to succeed.</summary>
    public static async Task<Measurement> RunAsync(string file, IReadOnlyList<string> arguments, string? workingDirectory = null, IReadOnlyDictionary<string, string>? environment = null)
    {
        var start = new ProcessStartInfo(file, arguments) { RedirectStandardOutput = true, WorkingDirectory = workingDirectory ?? "" };
        foreach (var (key, value) in environment ?? new Dictionary<string, string>())
        {
            start.Environment[key] = value;
        }

        var cpuBefore = ChildrenCpuSeconds();
        var watch = Stopwatch.StartNew();
        using var process = Process.Start(start) ?? throw new InvalidOperationException($"{file} did not start.");
        long peak = 0;
        var output = new StringBuilder();
        var reading = Task.Run(async () => output.Append(await process.StandardOutput.ReadToEndAsync()));
        while (!process.WaitForExit(10))
        {
            peak = Math.Max(peak, PeakBytesOf(process.Id));
        }

        var wall = watch.Elapsed.TotalSeconds;
        await reading;
        var text = output.ToString();
        if (process.ExitCode != 0)
        {
            throw new InvalidOperationException($"{file} {string.Join(' ', arguments)} ended with {process.ExitCode}: {text}");
        }

        return new Measurement(
            Said(text, "wall_seconds") ?? wall,
            Said(text, "cpu_seconds") ?? ChildrenCpuSeconds() - cpuBefore,
            (long)(Said(text, "peak_bytes") ?? peak),
            text);
    }

    /// <summary>Prints a number for <see cref="Said"/>.</summary>
    public static void Say(string name, double value) => Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{name}={value:R}"));

    /// <summary>A number that a process printed as <c>name=number</c> on a line of its own; null when it did not.</summary>
    public static double? Said(string output, string name)
    {
        var line = output.Split('\n').LastOrDefault(l => l.StartsWith(name + "=", StringComparison.Ordinal));
        return line is null ? null : double.Parse(line.AsSpan(name.Length + 1).Trim(), NumberStyles.Float, CultureInfo.InvariantCulture);
    }

    // Stays readable until the process is waited for; the last value before the end counts.
    private static long PeakBytesOf(int id)
    {
        try
        {
            var line = File.ReadLines($"/proc/{id}/status").FirstOrDefault(l => l.StartsWith("VmHWM:", StringComparison.Ordinal));
            return line is null ? 0 : long.Parse(line.AsSpan(6).Trim().TrimEnd(" kB"), CultureInfo.InvariantCulture) * 1024;
        }
        catch (IOException)
        {
            return 0;
        }
    }

    private static double ChildrenCpuSeconds()
    {
        var usage = new long[18];
        return getrusage(RusageChildren, usage) == 0 ? usage[0] + usage[2] + ((usage[1] + usage[3]) / 1e6) : 0;
    }

    [DllImport("libc", SetLastError = true)]
    private static extern int getrusage(int who, [Out] long[] usage);
}
