using System.Globalization;
using LlmPipeline.Bench;
using LlmPipeline.Bench.Exchange;
using LlmPipeline.Bench.Quality;

// One command a figure: dotnet run -c Release --project bench -- NAME [arguments]
// Each prints a table, ends with "NAME: <figure> (goal <goal>)", exits 0 where the goal is met and 1 where not, and leaves
// its output under bench/results/.
return args switch
{
    ["quickstart", .. var rest] => await QuickStartBench.RunAsync(rest),
    ["ngram", .. var rest] => await NgramBench.RunAsync(rest),
    ["ngram-one", var data, var text, var order, var smoothing] => NgramBench.RunOne(data, text, order, smoothing),
    ["shakespeare-char", var text, .. var rest] => await ShakespeareCharBench.RunAsync(Path.GetFullPath(text), rest),
    ["tokenizer-train", .. var rest] => await TokenizerTrainBench.RunAsync(Rounds(rest, 5)),
    [TokenizerTrainBench.SelfCommand, var text, var output] => TokenizerTrainBench.RunSelf(text, output),
    ["tokenizer-encode", .. var rest] => await TokenizerEncodeBench.RunAsync(Rounds(rest, 3)),
    [TokenizerEncodeBench.SelfCommand, var side, var threads] => await TokenizerEncodeBench.RunSelfAsync(side, int.Parse(threads, CultureInfo.InvariantCulture)),
    ["ablation", var text, .. var rest] => await AblationBench.RunAsync(Path.GetFullPath(text), rest),
    ["optimizer", .. var rest] => await OptimizerBench.RunAsync(Rounds(rest, 5)),
    [OptimizerBench.SelfCommand] => OptimizerBench.RunSelf(),
    ["text-memory", .. var rest] => await TextMemoryBench.RunAsync(rest),
    [TextMemoryBench.SelfCommand, var source, var store] => await TextMemoryBench.RunSelfAsync(source, store),
    ["quality", .. var rest] => await QualityBench.RunAsync(rest),
    ["mr", .. var rest] => await LlmPipeline.Bench.Mr.MrBench.RunAsync(rest),
    ["train-speed", .. var rest] => await TrainSpeedBench.RunAsync(rest),
    [TrainSpeedBench.SelfCommand, .. var rest] => TrainSpeedBench.RunSelf(rest),
    [TrainSpeedBench.LiveCommand, var precision] => TrainSpeedBench.RunLive(precision),
    ["gpu-speed", .. var rest] => await GpuSpeedBench.RunAsync(Rounds(rest, 3)),
    [GpuSpeedBench.SelfCommand, var setUp] => GpuSpeedBench.RunSelf(setUp),
    ["recurrent-speed", .. var rest] => await RecurrentSpeedBench.RunAsync(Rounds(rest, 3)),
    [RecurrentSpeedBench.SelfCommand, .. var rest] => RecurrentSpeedBench.RunSelf(rest),
    ["diloco", .. var rest] => await LlmPipeline.Bench.Diloco.DilocoBench.RunAsync(rest),
    [LlmPipeline.Bench.Diloco.DilocoRank.Command, var job] => await LlmPipeline.Bench.Diloco.DilocoRank.RunAsync(job),
    ["checkpoint", .. var rest] => await CheckpointBench.RunAsync(Rounds(rest, 3)),
    [CheckpointBench.SelfCommand, var folder] => CheckpointBench.RunSelf(folder),
    ["allreduce", .. var rest] => await AllReduceBench.RunAsync(rest),
    [AllReduceRank.Command, .. var rest] => await AllReduceRank.RunAsync(rest),
    ["efficiency", .. var rest] => await EfficiencyBench.RunAsync(rest),
    [EfficiencyWorker.Command, .. var rest] => await EfficiencyWorker.RunAsync(rest),
    ["exact", .. var rest] => await ExactBench.RunAsync(Rounds(rest, 7)),
    ["chaos", .. var rest] => await LlmPipeline.Bench.Reliability.ChaosBench.RunAsync(rest),
    ["reliability", .. var rest] => await LlmPipeline.Bench.Reliability.ReliabilityBench.RunAsync(rest),
    ["multilingual"] => await MultilingualBench.RunAsync(),
    _ => Usage(),
};

static int Rounds(string[] arguments, int otherwise) => arguments is [var rounds] ? int.Parse(rounds, CultureInfo.InvariantCulture) : otherwise;

static int Usage()
{
    Console.Error.WriteLine("""
        Usage: dotnet run -c Release --project bench -- NAME [arguments]

          quickstart [WORKERS ...]          the README's quick start from a fresh clone, timed; default 2 1 3
          ngram [DATA FOLDER]               n-gram models against published losses, and what they cost; default LLMPIPELINE_TEST_DATA
          tokenizer-train [ROUNDS]          BPE training on 100 MB against Hugging Face tokenizers; default 5
          tokenizer-encode [ROUNDS]         BPE encoding of 10 MB against tiktoken and Microsoft.ML.Tokenizers; default 3
          ablation TEXT [--anew] [workers=N]  each means against overfitting alone and together, on TEXT (Tiny Shakespeare); resumable
          optimizer [ROUNDS]                a step of AdamW over 10.7 million parameters against PyTorch's (needs python3-torch); default 5
          text-memory [PART ...] [scale=S]  peak memory and throughput from files to shards: 100mb, 4gb, line, files; needs 20 GB of disk
          mr [folds=N] [--anew]             sentence polarity: from word vectors and from film reviews against from scratch, 10 folds; resumable (needs LLMPIPELINE_TEST_DATA, npm)
          allreduce [ROUNDS [RANKS [FLOATS]]]  gradients summed over gRPC beside Gloo and plain sockets, 2 and 4 ranks, 10 and 100 million; default 6
                                            (needs /usr/bin/python3 with torch)
          efficiency [ROUNDS [MICRO-BATCHES]]  two workers on a core each beside one on half the batch; default 12
          exact [ROUNDS]                    what exact sums of gradients cost beside plain ones, and how exact they are; default 7
          checkpoint [ROUNDS]               what checkpoints cost a run of 10.7 million parameters; default 3
          chaos [--minutes N] [--seed N] [--steps N] [--resume]  trainings under random faults, one every 20 s on average; default 30 minutes
          reliability [TEST ...] [--times N] [--anew]  the reliability tests at many random instants; resumable, hours in all
          diloco [--anew]                   low-communication training beside the synchronous run: perplexity, bytes, a slow link; resumable
          multilingual                      tokens of 48 languages with a vocabulary of 32k, relative to English (needs LLMPIPELINE_TEST_DATA)
          recurrent-speed [ROUNDS]          training an LSTM on WikiText-2 words, beside PyTorch on one core; default 3 (needs LLMPIPELINE_TEST_DATA)
          quality [--full] [--anew]         published numbers reproduced, in one table; resumable, 100 minutes (needs LLMPIPELINE_TEST_DATA, npm)
          train-speed [ROUNDS] [SET-UP]     training steps and memory beside nanoGPT's in PyTorch on one core; default 3 (needs /usr/bin/python3 with torch)
          gpu-speed [ROUNDS]                training steps on a GPU beside nanoGPT's in the installed PyTorch, eager and compiled; default 3
                                            (needs python3 with torch, and a build with -p:TorchBackend=none)
          shakespeare-char TEXT [SEED ...] [--gpu]  validation loss of nanoGPT's character set-ups on TEXT (Tiny Shakespeare); default 1 2 3
        """);
    return 2;
}
