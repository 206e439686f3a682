using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using LlmPipeline.Bench.Measuring;
using LlmPipeline.Models;
using LlmPipeline.Runs.V1;

namespace LlmPipeline.Bench;

/// <summary>
/// Steps of an LSTM language model of 2 x 200 on the words of WikiText-2 on one core, beside torch.nn.LSTM with OpenBLAS: the set-up
/// of PyTorch's word_language_model example. Each side is a process, in turn; a process says the median of its steps.
/// </summary>
internal static class RecurrentSpeedBench
{
    private static readonly string[] Parts = ["train", "valid", "test"];
    public const string SelfCommand = "recurrent-speed-self";

    private const int Layers = 2, Width = 200, Batch = 20, Time = 35, Steps = 20, Warmup = 5;
    private const double Dropout = 0.2;
    private const string Python = "/usr/bin/python3";

    public static async Task<int> RunAsync(int rounds)
    {
        var data = Machine.TestData;
        var (ids, vocabulary) = WordIds(Path.Combine(data, "wikitext-2"));
        var file = Path.Combine(Path.GetTempPath(), "llmpipeline-bench", "wikitext-2.ids");
        Directory.CreateDirectory(Path.GetDirectoryName(file)!);
        await File.WriteAllBytesAsync(file, MemoryMarshal.AsBytes(ids.AsSpan()).ToArray());

        var text = new StringBuilder($"""
            # recurrent-speed: an LSTM on words, beside PyTorch

            {await Machine.DescribeAsync("dotnet run -c Release --project bench -- recurrent-speed")}
            - PyTorch: {(await Machine.OutputOfAsync(Python, ["-c", "import torch; print(torch.__version__)"])).Trim()}, OpenBLAS with OPENBLAS_CORETYPE=SKYLAKEX, one thread
            - LSTM of {Layers} x {Width}, dropout {Dropout}, head not tied, fp32; WikiText-2, {vocabulary} words; a step is {Batch} sequences of {Time} words, with clipping and update. Ours is the step of the training loop
            - Each process runs on one core (taskset) with one thread; {rounds} processes a side, in turn; medians of their medians, range in brackets
            - "AMD option": `Torch:MklAvx512OnAmd`, the AVX-512 path of MKL on AMD
            - The goal is for CPU time a step, which other jobs on the machine do not enter; tokens/s are of wall time

            """);
        var ratios = new List<(string Optimizer, double Ratio)>();
        foreach (var optimizer in new[] { "sgd", "adamw" })
        {
            var results = await SideBySide.RunAsync(rounds,
                new Side("PyTorch", () => MeasuredProcess.RunPinnedAsync(Python, [Path.Combine(Machine.RepositoryRoot, "bench", "peers", "lstm_train.py"),
                    file, $"{vocabulary}", $"{Layers}", $"{Width}", $"{Batch}", $"{Time}", Dropout.ToString(CultureInfo.InvariantCulture), optimizer, $"{Steps}", $"{Warmup}"])),
                Ours("ours, AMD option", amdOption: true),
                Ours("ours", amdOption: false));
            if (results.Select(side => MeasuredProcess.Said(side.Runs[0].Output, "parameters")).Distinct().Count() > 1)
            {
                throw new InvalidOperationException("The networks are not of one size.");
            }

            text.AppendLine(CultureInfo.InvariantCulture, $"\n## {optimizer}\n\n| | CPU ms a step | wall ms a step | times as fast (CPU; wall) | tokens/s | peak MB |\n| --- | ---: | ---: | ---: | ---: | ---: |");
            var (cpu, wall) = (SpreadOf(results[0], "step_cpu_ms").Median, SpreadOf(results[0], "step_wall_ms").Median);
            foreach (var side in results)
            {
                var (sideCpu, sideWall) = (SpreadOf(side, "step_cpu_ms"), SpreadOf(side, "step_wall_ms"));
                text.AppendLine(CultureInfo.InvariantCulture,
                    $"| {side.Name} | {sideCpu} | {sideWall} | {cpu / sideCpu.Median:F2}; {wall / sideWall.Median:F2} | {1e3 * Batch * Time / sideWall.Median:F0} | {side.PeakBytes / 1e6:F0} |");
            }

            ratios.Add((optimizer, cpu / SpreadOf(results[1], "step_cpu_ms").Median));

            Side Ours(string name, bool amdOption) => new(name, () => MeasuredProcess.RunPinnedAsync(Environment.ProcessPath!,
                [.. Path.GetFileNameWithoutExtension(Environment.ProcessPath) == "dotnet" ? [typeof(RecurrentSpeedBench).Assembly.Location] : Array.Empty<string>(),
                    SelfCommand, file, $"{vocabulary}", optimizer, $"{amdOption}"]));
        }

        text.AppendLine().Append(CultureInfo.InvariantCulture,
            $"recurrent-speed: {string.Join(", ", ratios.Select(r => string.Create(CultureInfo.InvariantCulture, $"{r.Optimizer} {r.Ratio:F2}x")))} (goal 1.00x PyTorch)");
        await Machine.PublishAsync("recurrent-speed", text.ToString());
        return ratios.All(r => r.Ratio >= 1) ? 0 : 1;
    }

    /// <summary>Trains in this process and says what a step took.</summary>
    public static int RunSelf(string[] arguments)
    {
        var (file, vocabulary, optimizer, amdOption) = (arguments[0], int.Parse(arguments[1], CultureInfo.InvariantCulture), arguments[2], bool.Parse(arguments[3]));
        TorchRuntime.Initialize(new TorchRuntimeOptions { MklAvx512OnAmd = amdOption });
        var (wall, cpu) = (new List<double>(), new List<double>());
        var (mark, used) = (Stopwatch.GetTimestamp(), Environment.CpuUsage.TotalTime);
        long parameters = 0;
        var spec = new RunSpec
        {
            Model = new ModelSpec { Architecture = "lstm", Layers = Layers, Width = Width, EmbeddingWidth = Width, Context = Time, Dropout = Dropout },
            Optimizer = optimizer == "sgd"
                ? new OptimizerSpec { Kind = "sgd", LearningRate = 20, ClipNorm = 0.25, Schedule = "constant", WarmupSteps = 0 }
                : new OptimizerSpec { Kind = "adamw", LearningRate = 1e-3, ClipNorm = 0.25, Schedule = "constant", WarmupSteps = 0 },
            Training = new TrainingSpec { Steps = Warmup + Steps, BatchSize = Batch, MicroBatchSize = Batch, Precision = "fp32" },
        };
        LoneTraining.Run(spec, vocabulary, replica =>
        {
            parameters = replica.Model.ParameterCount;
            var (now, usedNow) = (Stopwatch.GetTimestamp(), Environment.CpuUsage.TotalTime);
            if (replica.State.Step > Warmup)
            {
                wall.Add(Stopwatch.GetElapsedTime(mark, now).TotalMilliseconds);
                cpu.Add((usedNow - used).TotalMilliseconds);
            }

            (mark, used) = (now, usedNow);
        }, MemoryMarshal.Cast<byte, int>(File.ReadAllBytes(file)).ToArray());
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"parameters={parameters}\nstep_wall_ms={Spread.Of(wall).Median}\nstep_cpu_ms={Spread.Of(cpu).Median}\npeak_bytes={MeasuredProcess.OwnPeakBytes()}"));
        return 0;
    }

    // As the example has them: in order of appearance, each line ended by <eos>.
    private static (int[] Ids, int Vocabulary) WordIds(string folder)
    {
        var words = new Dictionary<string, int>(StringComparer.Ordinal);
        var parts = Parts.Select(part => File.ReadLines(Path.Combine(folder, part + ".txt"))
            .SelectMany(line => line.Split(' ', StringSplitOptions.RemoveEmptyEntries).Append("<eos>"))
            .Select(word => words.TryGetValue(word, out var id) ? id : words[word] = words.Count).ToArray()).ToArray();
        return (parts[0], words.Count);
    }

    private static Spread SpreadOf(Measured side, string name) => Spread.Of(side.Runs.Select(r => MeasuredProcess.Said(r.Output, name) ?? double.NaN));
}
