using System.Globalization;
using System.Text.Json;
using LlmPipeline.Bench.Measuring;
using LlmPipeline.Fakes;

namespace LlmPipeline.Bench.Diloco;

/// <summary>Runs trainings as processes, and keeps what they came to, so that a bench that was interrupted goes on.</summary>
/// <param name="folder">Where results are kept.</param>
internal sealed class DilocoRuns(string folder)
{
    /// <summary>A training over loopback; what is known is not run again.</summary>
    public Task<DilocoResult> GetAsync(DilocoJob job) => GetAsync(job, "loopback", async () =>
    {
        string[] addresses = [.. FreePort.Several(job.Workers).Select(port => $"http://127.0.0.1:{port}")];
        return await RunAsync(job, addresses, (_, jobFile) => MeasuredProcess.RunSelfAsync(DilocoRank.Command, jobFile));
    });

    /// <summary>A training of two members over a link of a rate, each in a network namespace of its own; null where that cannot be.</summary>
    public async Task<DilocoResult?> GetOverLinkAsync(DilocoJob job, string rate)
    {
        var link = await ThrottledLink.TryCreateAsync(rate);
        if (link is null)
        {
            return null;
        }

        await using (link)
        {
            return await GetAsync(job, rate, () => RunAsync(job, link.Addresses, (rank, jobFile) =>
            {
                var self = MeasuredProcess.SelfCommand(DilocoRank.Command, jobFile);
                return MeasuredProcess.RunAsync("ip", ["netns", "exec", link.Namespaces[rank], .. self]);
            }));
        }
    }

    private async Task<DilocoResult> GetAsync(DilocoJob job, string where, Func<Task<DilocoResult>> run)
    {
        var file = Path.Combine(folder, $"{job.Key()}-{where}.json");
        if (File.Exists(file))
        {
            return JsonSerializer.Deserialize<DilocoResult>(await File.ReadAllTextAsync(file))!;
        }

        var result = await run();
        await File.WriteAllTextAsync(file, JsonSerializer.Serialize(result));
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"{DateTime.UtcNow:HH:mm:ss} {job.Name}, {job.Workers} workers, {(job.Local is null ? "synchronous" : $"H = {job.Local.Steps} {job.Local.Wire} {job.Local.OptimizerState}")}, seed {job.Seed}, {where}: perplexity {result.Perplexity:F4}, {result.BytesSent / 1e6:F1} MB, {result.Seconds:F0} s"));
        return result;
    }

    private async Task<DilocoResult> RunAsync(DilocoJob job, IReadOnlyList<string> addresses, Func<int, string, Task<Measurement>> start)
    {
        var measured = await Task.WhenAll(Enumerable.Range(0, job.Workers).Select(async rank =>
        {
            var jobFile = Path.Combine(folder, $"job-{rank}.json");
            await File.WriteAllTextAsync(jobFile, job.ToJson(rank, addresses));
            return await Task.Run(() => start(rank, jobFile));
        }));
        double Said(string name) => MeasuredProcess.Said(measured[0].Output, name) ?? throw new InvalidOperationException($"A training did not say its {name}: {measured[0].Output}");
        return new DilocoResult(Said("loss"), (long)Said("bytes_sent"), Said("seconds"));
    }
}
