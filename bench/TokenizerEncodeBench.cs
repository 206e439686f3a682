using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using LlmPipeline.Bench.Measuring;
using LlmPipeline.Text;

namespace LlmPipeline.Bench;

/// <summary>
/// Encoding of 10 MB, as documents of about 10 kB, with the vocabulary of <see cref="TokenizerTrainBench"/>, against tiktoken and
/// Microsoft.ML.Tokenizers. Each process encodes the next 10 MB first; then the median of its passes counts.
/// </summary>
internal static class TokenizerEncodeBench
{
    /// <summary>The hidden command that is our side and Microsoft.ML.Tokenizers.</summary>
    public const string SelfCommand = "tokenizer-encode-self";

    private const int Bytes = 10_000_000;
    private const int WarmPasses = 5;
    private const int Passes = 9;
    private const double Goal = 2;
    private const double ScalingGoal = 1.8;
    private const double AllocationGoal = 1;

    public static async Task<int> RunAsync(int rounds)
    {
        var corpus = await Corpus.GetAsync();
        if (!File.Exists(TokenizerTrainBench.TrainedPath))
        {
            TokenizerTrainBench.RunSelf(corpus.Path, TokenizerTrainBench.TrainedPath);
        }

        var tokenizer = TokenizerFile.Parse(await File.ReadAllTextAsync(TokenizerTrainBench.TrainedPath));
        var folder = Directory.CreateTempSubdirectory("llmpipeline-bench-").FullName;
        try
        {
            var (documents, warm) = DocumentsOf(corpus);
            var (texts, warmTexts, vocabulary) = (Path.Combine(folder, "texts.json"), Path.Combine(folder, "warm.json"), Path.Combine(folder, "vocabulary.txt"));
            await File.WriteAllTextAsync(texts, JsonSerializer.Serialize(documents.Select(Encoding.UTF8.GetString)));
            await File.WriteAllTextAsync(warmTexts, JsonSerializer.Serialize(warm.Select(Encoding.UTF8.GetString)));
            await File.WriteAllLinesAsync(vocabulary, Enumerable.Range(1, tokenizer.VocabularySize - 1).Select(id => Convert.ToBase64String(tokenizer.BytesOf(id))));
            var modules = Path.Combine(await Npm.InstallAsync("tiktoken@1.0.22"), "node_modules");
            var results = await SideBySide.RunAsync(rounds,
                new Side("LlmPipeline, 1 thread", () => MeasuredProcess.RunSelfAsync(SelfCommand, "ours", "1")),
                new Side("LlmPipeline, 2 threads", () => MeasuredProcess.RunSelfAsync(SelfCommand, "ours", "2")),
                new Side("Microsoft.ML.Tokenizers 2.0.1, 1 thread", () => MeasuredProcess.RunSelfAsync(SelfCommand, "ml", "1")),
                new Side("tiktoken 1.0.22 (npm), 1 thread", () => MeasuredProcess.RunAsync(
                    "node", [TokenizerTrainBench.Peer("tiktoken-encode.cjs"), modules, vocabulary, WordSplitter.Gpt2.Pattern, texts, warmTexts, $"{Passes}"])));
            return await PublishAsync(corpus, documents.Sum(d => (long)d.Length), results);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>One side: "ours" or "ml".</summary>
    public static async Task<int> RunSelfAsync(string side, int threads)
    {
        var (documents, warm) = DocumentsOf(await Corpus.GetAsync());
        var json = await File.ReadAllTextAsync(TokenizerTrainBench.TrainedPath);
        var encode = side == "ours" ? Ours(TokenizerFile.Parse(json), documents, warm) : MicrosoftMl(json, documents, warm);

        // JIT, and what each side remembers of words: text of the same kind, but not the same text.
        for (var n = 0; n < WarmPasses; n++)
        {
            encode(false, threads, []);
        }

        List<(double Wall, double Cpu)> passes = [];
        List<double> scaling = [];
        var ids = new int[documents.Count][];
        long allocated = 0;
        for (var n = 0; n < Passes; n++)
        {
            // One thread right before several: the clock of a shared machine changes from one process to the next.
            var alone = Stopwatch.StartNew();
            if (threads > 1)
            {
                encode(true, 1, []);
                alone.Stop();
            }

            var (bytes, cpu, watch) = (GC.GetTotalAllocatedBytes(precise: true), Environment.CpuUsage.TotalTime, Stopwatch.StartNew());
            encode(true, threads, n == 0 ? ids : []);
            scaling.Add(alone.Elapsed / watch.Elapsed);
            passes.Add((watch.Elapsed.TotalSeconds, (Environment.CpuUsage.TotalTime - cpu).TotalSeconds));
            allocated = n == 0 ? 0 : Math.Max(allocated, GC.GetTotalAllocatedBytes(precise: true) - bytes);
        }

        var (wall, used) = passes.Order().ElementAt(Passes / 2);
        MeasuredProcess.Say("wall_seconds", wall);
        MeasuredProcess.Say("cpu_seconds", used);
        MeasuredProcess.Say("scaling", Spread.Of(scaling.Skip(1)).Median);
        MeasuredProcess.Say("allocated_bytes", allocated);
        MeasuredProcess.Say("tokens", ids.Sum(i => i.Length));
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (var document in ids)
        {
            hash.AppendData(MemoryMarshal.AsBytes(document.AsSpan()));
        }

        Console.WriteLine($"ids={Convert.ToHexStringLower(hash.GetCurrentHash())}");
        return 0;
    }

    private static Action<bool, int, int[][]> Ours(ITokenizer tokenizer, List<byte[]> documents, List<byte[]> warm)
    {
        var lists = new ThreadLocal<List<int>>(() => []);
        return (measured, threads, keep) => ForEach(measured ? documents.Count : warm.Count, threads, i =>
        {
            var ids = lists.Value!;
            ids.Clear();
            tokenizer.Encode((measured ? documents : warm)[i], ids);
            Keep(keep, i, ids);
        });
    }

    private static Action<bool, int, int[][]> MicrosoftMl(string json, List<byte[]> documents, List<byte[]> warm)
    {
        using var file = JsonDocument.Parse(json);
        var model = file.RootElement.GetProperty("model");
        var tokenizer = Microsoft.ML.Tokenizers.BpeTokenizer.Create(new Microsoft.ML.Tokenizers.BpeOptions(
            model.GetProperty("vocab").EnumerateObject().ToDictionary(t => t.Name, t => t.Value.GetInt32()))
        {
            Merges = [.. model.GetProperty("merges").EnumerateArray().Select(m => m.GetString()!)],
            ByteLevel = true,
            PreTokenizer = new Microsoft.ML.Tokenizers.RegexPreTokenizer(new Regex(WordSplitter.Gpt2.Pattern, RegexOptions.Compiled), null),
        });
        var (texts, warmTexts) = (documents.Select(Encoding.UTF8.GetString).ToList(), warm.Select(Encoding.UTF8.GetString).ToList());
        return (measured, threads, keep) => ForEach((measured ? texts : warmTexts).Count, threads, i => Keep(keep, i, tokenizer.EncodeToIds((measured ? texts : warmTexts)[i])));
    }

    private static void Keep(int[][] keep, int i, IReadOnlyList<int> ids)
    {
        if (keep.Length > 0)
        {
            keep[i] = [.. ids];
        }
    }

    private static void ForEach(int count, int threads, Action<int> body)
    {
        if (threads > 1)
        {
            Parallel.For(0, count, new ParallelOptions { MaxDegreeOfParallelism = threads }, body);
            return;
        }

        for (var i = 0; i < count; i++)
        {
            body(i);
        }
    }

    private static (List<byte[]> Measured, List<byte[]> Warm) DocumentsOf(Corpus corpus)
    {
        var all = corpus.Documents(2 * Bytes);
        var (measured, bytes) = (0, 0);
        while (bytes + all[measured].Length <= Bytes)
        {
            bytes += all[measured++].Length;
        }

        return (all[..measured], all[measured..]);
    }

    private static async Task<int> PublishAsync(Corpus corpus, long bytes, IReadOnlyList<Measured> results)
    {
        var identical = results.SelectMany(r => r.Runs).Select(r => r.Output.Split('\n').Single(l => l.StartsWith("ids=", StringComparison.Ordinal))).Distinct().Count() == 1;
        var table = new StringBuilder("| | MB/s, median (min-max) | MB a CPU second, median | tokens | allocated MB a MB |\n| --- | ---: | ---: | ---: | ---: |\n");
        foreach (var r in results)
        {
            var allocated = MeasuredProcess.Said(r.Runs[0].Output, "allocated_bytes") is { } value ? (value / bytes).ToString("F3", CultureInfo.InvariantCulture) : "-";
            table.AppendLine(CultureInfo.InvariantCulture,
                $"| {r.Name} | {bytes / 1e6 / r.Wall.Median:F1} ({bytes / 1e6 / r.Wall.Max:F1}-{bytes / 1e6 / r.Wall.Min:F1}) | {bytes / 1e6 / r.Cpu.Median:F1} | {MeasuredProcess.Said(r.Runs[0].Output, "tokens"):N0} | {allocated} |");
        }

        var ratio = Math.Min(results[2].Wall.Median, results[3].Wall.Median) / results[0].Wall.Median;
        var scaling = Spread.Of(results[1].Runs.Select(r => MeasuredProcess.Said(r.Output, "scaling")!.Value));
        var allocation = results.Take(2).Max(r => r.Runs.Max(run => MeasuredProcess.Said(run.Output, "allocated_bytes")!.Value)) / bytes;
        var last = string.Create(CultureInfo.InvariantCulture,
            $"tokenizer-encode: {ratio:F1} times the faster peer on one core, {scaling.Median:F2} times that on two, {allocation:F2} MB allocated a MB, tokens {(identical ? "identical" : "DIFFERENT")} (goal {Goal:F1}, {ScalingGoal:F1}, at most {AllocationGoal:F0}, identical)");
        await Machine.PublishAsync("tokenizer-encode", $"""
            # Encoding with a byte-level BPE

            {await Machine.DescribeAsync("dotnet run -c Release --project bench -- tokenizer-encode")}
            {corpus.Description}

            Its first {bytes / 1e6:F1} MB in documents of about 10 kB, with the 30,000 tokens of `tokenizer-train`. Each process encodes the next 10 MB {WarmPasses} times (tiktoken, which remembers nothing, once) and then the text {Passes} times, of which the median counts. We take UTF-8, as the documents of a dataset are; the peers take their own strings, made before. Memory is allocated by a pass after the first.

            {table}
            Two threads against one, pass by pass in the same process: {scaling} times as fast.

            {last}
            """);
        return ratio >= Goal && scaling.Median >= ScalingGoal && allocation <= AllocationGoal && identical ? 0 : 1;
    }
}
