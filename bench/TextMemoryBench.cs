using System.Diagnostics;
using System.Globalization;
using System.Text;
using LlmPipeline.Bench.Measuring;
using LlmPipeline.Storage;
using LlmPipeline.Text;
using LlmPipeline.Text.Building;

namespace LlmPipeline.Bench;

/// <summary>
/// From files to shards, tokenizer training included, in a process of its own: 4 GB beside 100 MB, a file with a single line of 1 GB, and
/// 1,000,000 tiny files. Everything is made in the temporary folder and removed again.
/// </summary>
internal static class TextMemoryBench
{
    public const string SelfCommand = "text-memory-one";

    private const double GoalMegabytes = 600;
    private const double GoalRatio = 0.9;
    private const long SmallBytes = 100_000_000;
    private const int DocumentBytes = 10_000;

    private static readonly string[] AllParts = ["100mb", "4gb", "line", "files"];

    /// <summary>Runs all parts, or those that are named; <c>scale=0.1</c> makes all but the small corpus smaller.</summary>
    public static async Task<int> RunAsync(string[] arguments)
    {
        var scale = arguments.Where(a => a.StartsWith("scale=", StringComparison.Ordinal)).Select(a => double.Parse(a[6..], CultureInfo.InvariantCulture)).FirstOrDefault(1);
        var named = arguments.Where(a => !a.StartsWith("scale=", StringComparison.Ordinal)).ToArray();
        var parts = named.Length == 0 ? AllParts : named;
        if (parts.Except(AllParts).Any() || scale is not (> 0 and <= 1))
        {
            Console.Error.WriteLine($"text-memory takes some of {string.Join(", ", AllParts)}, and scale=0.1.");
            return 2;
        }

        var corpus = await Corpus.GetAsync();
        var rows = new StringBuilder();
        double peak = 0;
        var rates = new Dictionary<string, double>();
        foreach (var part in parts)
        {
            var folder = Directory.CreateTempSubdirectory("llmpipeline-text-memory-").FullName;
            try
            {
                Console.WriteLine($"making the text of {part}");
                var source = Path.Combine(folder, "text");
                Directory.CreateDirectory(source);
                var bytes = Make(part, corpus, source, scale);
                Console.WriteLine($"making the dataset of {part}, {bytes / 1e6:F0} MB");
                var run = await MeasuredProcess.RunSelfAsync(SelfCommand, source, Path.Combine(folder, "store"));
                var tokens = MeasuredProcess.Said(run.Output, "tokens") ?? 0;
                var disk = MeasuredProcess.Said(run.Output, "disk_peak_bytes") ?? 0;
                rates[part] = bytes / 1e6 / run.WallSeconds;
                peak = Math.Max(peak, run.PeakBytes / 1e6);
                rows.AppendLine(CultureInfo.InvariantCulture,
                    $"| {part} | {bytes / 1e6:N0} | {tokens / 1e6:N1} | {run.WallSeconds:F1} | {run.CpuSeconds:F1} | {rates[part]:F1} | {bytes / 1e6 / run.CpuSeconds:F1} | {run.PeakBytes / 1e6:F0} | {disk / 1e6:N0} |");
            }
            finally
            {
                Directory.Delete(folder, recursive: true);
            }
        }

        var ratio = rates.TryGetValue("4gb", out var large) && rates.TryGetValue("100mb", out var small) ? large / small : double.NaN;
        var met = parts.Length == AllParts.Length && scale == 1 && peak <= GoalMegabytes && ratio >= GoalRatio;
        var last = string.Create(CultureInfo.InvariantCulture,
            $"text-memory: {peak:F0} MB, {ratio:F2} of the 100 MB throughput (goal {GoalMegabytes:F0} MB, {GoalRatio:F2})");
        var report = $"""
            # Memory of the dataset builder

            {await Machine.DescribeAsync("dotnet run -c Release --project bench -- text-memory " + string.Join(' ', arguments))}

            From files to shards: reading, cleaning, duplicates, languages, a tokenizer of 16,384 ids trained on a sample of 128 MiB, encoding, leak check. Peak memory is the largest resident set of the process; work is what lay in storage at most, sources not counted.

            {corpus.Description.Trim()}
            - 4gb: 40 copies of it, in each of which about half of the words have one letter changed, other ones in every copy, so that no document is a duplicate; files of 100 MB, one JSON line a document.
            - line: one file of plain text with a single line of 1 GB. files: 1,000,000 text files of some 60 bytes in 1,000 folders.

            | part | source MB | million tokens | wall s | CPU s | MB/s | MB/CPU s | peak MB | work MB |
            | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
            {rows}
            {last}
            """;
        if (parts.Length == AllParts.Length && scale == 1)
        {
            await Machine.PublishAsync("text-memory", report);
        }
        else
        {
            Console.WriteLine(report);
        }

        return met ? 0 : 1;
    }

    /// <summary>The measured process: what the Preprocessor does with the same text.</summary>
    public static async Task<int> RunSelfAsync(string source, string storeFolder)
    {
        var store = new FolderBlobStore(storeFolder);
        var recipe = new DatasetRecipe
        {
            Sources = [source],
            Tokenizer = new TokenizerRecipe { Options = new TokenizerOptions { VocabularySize = 16_384 } },
            // As the service chooses: a single file of plain text is divided by its length, many documents by their hash.
            SplitMethod = Directory.GetFiles(source) is [var file] && file.EndsWith(".txt", StringComparison.Ordinal) ? SplitMethod.Tail : SplitMethod.Document,
            ValidationFraction = 0.01,
        };
        using var done = new CancellationTokenSource();
        var disk = WatchDiskAsync(storeFolder, done.Token);
        var progress = new BuildProgress();
        var clock = Stopwatch.StartNew();
        var properties = await new DatasetBuilder(store, new DatasetBuilderOptions(Path.Combine(storeFolder, "..", "scratch"), Environment.ProcessorCount))
            .BuildAsync(recipe, new DatasetTarget("datasets/text-memory"), progress, stage =>
            {
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{clock.Elapsed.TotalSeconds:F1} s {stage}, {Environment.WorkingSet / 1e6:F0} MB"));
                return Task.CompletedTask;
            });
        await done.CancelAsync();
        Console.WriteLine($"tokens={properties.Splits.Sum(s => s.TokenCount)}");
        Console.WriteLine($"disk_peak_bytes={await disk}");
        return 0;
    }

    private static async Task<long> WatchDiskAsync(string folder, CancellationToken cancellationToken)
    {
        long most = 0;
        using var timer = new PeriodicTimer(TimeSpan.FromSeconds(1));
        try
        {
            while (await timer.WaitForNextTickAsync(cancellationToken))
            {
                long now = 0;
                try
                {
                    now = new DirectoryInfo(folder).EnumerateFiles("*", SearchOption.AllDirectories).Sum(f => f.Length);
                }
                catch (Exception exception) when (exception is FileNotFoundException or DirectoryNotFoundException)
                {
                    // Something was removed meanwhile; the next look tells.
                }

                most = Math.Max(most, now);
            }
        }
        catch (OperationCanceledException)
        {
        }

        return most;
    }

    private static long Make(string part, Corpus corpus, string folder, double scale)
    {
        switch (part)
        {
            case "100mb":
                return WriteCopies(corpus, folder, 1);
            case "4gb":
                return WriteCopies(corpus, folder, Math.Max(1, (int)(40 * scale)));
            case "line":
                return WriteLine(corpus, Path.Combine(folder, "line.txt"), (long)(1_000_000_000 * scale));
            default:
                return WriteFiles(folder, (int)(1_000_000 * scale));
        }
    }

    private static long WriteCopies(Corpus corpus, string folder, int copies)
    {
        var documents = corpus.Documents((int)SmallBytes, DocumentBytes);
        long bytes = 0;
        for (var copy = 0; copy < copies; copy++)
        {
            var path = Path.Combine(folder, $"copy-{copy:D2}.jsonl");
            using (var file = new FileStream(path, FileMode.CreateNew, FileAccess.Write, FileShare.None, 1 << 20))
            {
                foreach (var document in documents)
                {
                    var text = copy == 0 ? document : Changed(document, (uint)copy);
                    file.Write("{\"text\":"u8);
                    file.Write(System.Text.Json.JsonSerializer.SerializeToUtf8Bytes(Encoding.UTF8.GetString(text)));
                    file.Write("}\n"u8);
                }
            }

            bytes += new FileInfo(path).Length;
        }

        return bytes;
    }

    // Of about every other word of lower-case letters, one letter is another one, by a hash of the copy and the word: the same word changes
    // in the same way within a copy, so that each copy is a text with a vocabulary like the first one's.
    private static byte[] Changed(byte[] text, uint copy)
    {
        var changed = (byte[])text.Clone();
        for (var i = 0; i < text.Length;)
        {
            var end = i;
            var hash = 2166136261 ^ (copy * 0x9E3779B9);
            while (end < text.Length && text[end] is >= (byte)'a' and <= (byte)'z')
            {
                hash = (hash ^ text[end++]) * 16777619;
            }

            if (end - i >= 4 && ((hash >> 16) & 1) == 0)
            {
                changed[i + (int)((hash >> 8) % (uint)(end - i))] = (byte)('a' + ((hash >> 20) % 26));
            }

            i = Math.Max(end, i + 1);
        }

        return changed;
    }

    private static long WriteLine(Corpus corpus, string path, long bytes)
    {
        var documents = corpus.Documents((int)SmallBytes, DocumentBytes);
        using var file = new FileStream(path, FileMode.CreateNew, FileAccess.Write, FileShare.None, 1 << 20);
        for (uint copy = 0; file.Length < bytes; copy++)
        {
            foreach (var document in documents)
            {
                var text = copy == 0 ? (byte[])document.Clone() : Changed(document, copy);
                text.AsSpan().Replace((byte)'\n', (byte)' ');
                text.AsSpan().Replace((byte)'\r', (byte)' ');
                file.Write(text);
                if (file.Position >= bytes)
                {
                    break;
                }
            }

            file.Flush();
        }

        return file.Length;
    }

    private static long WriteFiles(string folder, int count)
    {
        long bytes = 0;
        for (var i = 0; i < count; i++)
        {
            if (i % 1000 == 0)
            {
                Directory.CreateDirectory(Path.Combine(folder, $"{i / 1000:D4}"));
            }

            var text = Encoding.UTF8.GetBytes($"Note {i}: {i * 7919L % 1_000_003} things of {i % 365} days were kept, and {i % 89} were not.\n");
            File.WriteAllBytes(Path.Combine(folder, $"{i / 1000:D4}", $"{i:D7}.txt"), text);
            bytes += text.Length;
        }

        return bytes;
    }
}
