using System.Diagnostics;
using System.Globalization;

namespace LlmPipeline.Bench.Exchange;

/// <summary>A rank that waits for commands on its standard input.</summary>
internal sealed class RankProcess : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(3);

    private readonly Process _process;

    public RankProcess(string file, IReadOnlyList<string> arguments, int? core = null)
    {
        var start = core is null ? new ProcessStartInfo(file, arguments) : new ProcessStartInfo("taskset", ["-c", $"{core}", file, .. arguments]);
        (start.RedirectStandardInput, start.RedirectStandardOutput) = (true, true);
        start.Environment["OMP_NUM_THREADS"] = "1";
        _process = Process.Start(start) ?? throw new InvalidOperationException($"{file} did not start.");
    }

    /// <summary>A hidden command of this program.</summary>
    public static RankProcess OfSelf(IReadOnlyList<string> arguments, int? core = null) => new(Environment.ProcessPath!,
        [.. Path.GetFileNameWithoutExtension(Environment.ProcessPath) == "dotnet" ? [typeof(RankProcess).Assembly.Location] : Array.Empty<string>(), .. arguments], core);

    /// <summary>Waits for the line "ready".</summary>
    public async Task ReadyAsync()
    {
        while (await ReadLineAsync() != "ready")
        {
        }
    }

    /// <summary>Sends a command and returns the lines of numbers before "done".</summary>
    public async Task<IReadOnlyList<double[]>> AskAsync(string command)
    {
        await _process.StandardInput.WriteLineAsync(command);
        await _process.StandardInput.FlushAsync();
        var lines = new List<double[]>();
        while (await ReadLineAsync() is var line && line != "done")
        {
            lines.Add([.. line.Split(' ').Select(n => double.Parse(n, CultureInfo.InvariantCulture))]);
        }

        return lines;
    }

    public void Dispose()
    {
        if (!_process.HasExited)
        {
            _process.Kill();
        }

        _process.Dispose();
    }

    private async Task<string> ReadLineAsync() => await _process.StandardOutput.ReadLineAsync().WaitAsync(Patience)
        ?? throw new InvalidOperationException($"{_process.StartInfo.FileName} {string.Join(' ', _process.StartInfo.ArgumentList)} ended.");
}
