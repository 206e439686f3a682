using System.Globalization;
using LlmPipeline.Bench.Measuring;
using LlmPipeline.Text;

namespace LlmPipeline.Bench;

/// <summary>Training of a byte-level BPE of 30,000 tokens on 100 MB, from the file to tokenizer.json, against Hugging Face tokenizers.</summary>
internal static class TokenizerTrainBench
{
    /// <summary>The hidden command that is our side.</summary>
    public const string SelfCommand = "tokenizer-train-self";

    private const int VocabularySize = 30_000;
    private const int Threads = 2;
    private const int BlockBytes = 64 << 10;
    private const double Goal = 1.5;

    public static async Task<int> RunAsync(int rounds)
    {
        var corpus = await Corpus.GetAsync();
        var peer = await Npm.InstallAsync("tokenizers@0.23.2");
        var output = Path.Combine(Path.GetTempPath(), "llmpipeline-bench", "hf-tokenizer.json");
        var results = await SideBySide.RunAsync(rounds,
            new Side("LlmPipeline", () => MeasuredProcess.RunSelfAsync(SelfCommand, corpus.Path, TrainedPath)),
            new Side("Hugging Face tokenizers 0.23.2", () => MeasuredProcess.RunAsync(
                "node", [Peer("hf-train.cjs"), Path.Combine(peer, "node_modules"), corpus.Path, output],
                environment: new Dictionary<string, string> { ["RAYON_NUM_THREADS"] = $"{Threads}", ["TOKENIZERS_PARALLELISM"] = "true" })));
        var (ours, theirs) = (results[0], results[1]);
        foreach (var result in results)
        {
            var tokens = MeasuredProcess.Said(result.Runs[0].Output, "tokens");
            if (tokens != VocabularySize)
            {
                throw new InvalidOperationException($"{result.Name} made {tokens} tokens instead of {VocabularySize}.");
            }
        }

        var (wall, cpu) = (theirs.Wall.Median / ours.Wall.Median, theirs.Cpu.Median / ours.Cpu.Median);
        var last = string.Create(CultureInfo.InvariantCulture,
            $"tokenizer-train: {wall:F1} times as fast in wall time, {cpu:F1} in CPU time, peak {ours.PeakBytes / 1e6:F0} MB against {theirs.PeakBytes / 1e6:F0} MB (goal {Goal:F1} in both, and at most the peer's peak)");
        await Machine.PublishAsync("tokenizer-train", $"""
            # Training a byte-level BPE

            {await Machine.DescribeAsync("dotnet run -c Release --project bench -- tokenizer-train")}
            {corpus.Description}

            {VocabularySize:N0} tokens, GPT-2's splitting, {Threads} threads; whole processes, from the file to tokenizer.json, run in turn. The peer's binding always makes 30,000 tokens with pairs of any frequency, and splits line by line; ours splits the whole text and merges pairs that occur twice. Both reach the size.

            {SideBySide.Table(results)}
            {last}
            """);
        return wall >= Goal && cpu >= Goal && ours.PeakBytes <= theirs.PeakBytes ? 0 : 1;
    }

    /// <summary>What our side wrote last.</summary>
    public static string TrainedPath => Path.Combine(Path.GetTempPath(), "llmpipeline-bench", "tokenizer.json");

    /// <summary>A script of a peer.</summary>
    public static string Peer(string script) => Path.Combine(Machine.RepositoryRoot, "bench", "peers", script);

    /// <summary>Our side: trains on a file and writes tokenizer.json.</summary>
    public static int RunSelf(string text, string output)
    {
        var tokenizer = BpeTrainer.Train(
            WordCounts.Count(Blocks(text, WordSplitter.Gpt2), WordSplitter.Gpt2, Threads),
            new BpeOptions(VocabularySize) { Splitter = WordSplitter.Gpt2 });
        File.WriteAllText(output, tokenizer.ToJson());
        Console.WriteLine($"tokens={tokenizer.VocabularySize}");
        return 0;
    }

    // Cut where the words are those of the whole text.
    private static IEnumerable<ReadOnlyMemory<byte>> Blocks(string path, IWordSplitter splitter)
    {
        using var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0, FileOptions.SequentialScan);
        ReadOnlyMemory<byte> carry = default;
        while (true)
        {
            var buffer = new byte[carry.Length + BlockBytes];
            carry.CopyTo(buffer);
            var length = carry.Length + stream.ReadAtLeast(buffer.AsSpan(carry.Length), BlockBytes, throwOnEndOfStream: false);
            var atEnd = length < buffer.Length;
            var cut = atEnd ? length : splitter.LastSafeCut(buffer.AsSpan(0, length));
            carry = buffer.AsMemory(cut, length - cut);
            if (cut > 0)
            {
                yield return buffer.AsMemory(0, cut);
            }

            if (atEnd)
            {
                yield break;
            }
        }
    }
}
