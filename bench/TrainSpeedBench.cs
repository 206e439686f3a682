using System.Diagnostics;
using System.Globalization;
using System.Text;
using LlmPipeline.Bench.Measuring;
using LlmPipeline.Models;
using LlmPipeline.Runs.V1;
using TorchSharp;

namespace LlmPipeline.Bench;

/// <summary>
/// Steps of training on one core, beside nanoGPT's model and loop in PyTorch with OpenBLAS: the character set-ups of nanoGPT, for
/// a CPU and for a GPU ("baby"), in fp32 and bf16. Each side is a process, in turn; a process says the median of its steps.
/// </summary>
internal static class TrainSpeedBench
{
    public const string SelfCommand = "train-speed-self";
    public const string LiveCommand = "train-speed-live";

    private const int Vocabulary = 65;
    private const string Python = "/usr/bin/python3";

    private static readonly SetUp[] SetUps =
    [
        new("character", 4, 4, 128, 64, 12, Steps: 100, Warmup: 20),
        new("baby", 6, 6, 384, 256, 8, Steps: 8, Warmup: 3),
    ];

    private static readonly Goal[] Goals =
    [
        new("character", "fp32", 1.25, 0.85),
        new("baby", "fp32", 1.15, 0.7),
        new("baby", "bf16", 1.0, 0.85),
    ];

    public static async Task<int> RunAsync(string[] arguments)
    {
        var rounds = arguments.Length > 0 ? int.Parse(arguments[0], CultureInfo.InvariantCulture) : 3;
        var setUps = SetUps.Where(s => arguments.Length < 2 || s.Name == arguments[1]).ToArray();
        if (await MissingAsync() is { } missing)
        {
            Console.WriteLine($"train-speed: not measured, {missing} (goal {GoalText})");
            return 1;
        }

        var text = new StringBuilder($"# train-speed: steps on one core beside nanoGPT in PyTorch\n\n{await Machine.DescribeAsync("dotnet run -c Release --project bench -- train-speed")}\n");
        text.AppendLine(CultureInfo.InvariantCulture, $"- PyTorch: {await OutputOfPythonAsync("import torch; print(torch.__version__, torch.__config__.show().split('CPU capability usage: ')[1].split(chr(10))[0])")}, OpenBLAS with OPENBLAS_CORETYPE=SKYLAKEX, one thread");
        text.AppendLine(CultureInfo.InvariantCulture, $"- Each process runs on one core (taskset) with one thread; {rounds} processes a side, in turn; medians of their medians, range in brackets");
        text.AppendLine("- \"AMD option\": `Torch:MklAvx512OnAmd`, the AVX-512 path of MKL on AMD. MFU: of the fastest matrix product here, in the same precision");
        text.AppendLine("- The goals are for CPU time a step, which other jobs on the machine do not enter; tokens/s are of wall time");
        var failed = new List<string>();
        var figures = new List<string>();
        foreach (var setUp in setUps)
        {
            foreach (var precision in new[] { "fp32", "bf16" })
            {
                await MeasureAsync(setUp, precision, rounds, text, figures, failed);
            }
        }

        await MeasureLiveAsync(text, failed);
        text.AppendLine().AppendLine(failed.Count == 0 ? "All goals are met." : $"Missed: {string.Join("; ", failed)}.");
        text.AppendLine().Append(CultureInfo.InvariantCulture, $"train-speed: {string.Join(", ", figures)} (goal {GoalText})");
        await Machine.PublishAsync("train-speed", text.ToString());
        return failed.Count == 0 ? 0 : 1;
    }

    /// <summary>Trains in this process and says what a step took.</summary>
    public static int RunSelf(string[] arguments)
    {
        var setUp = SetUps.Single(s => s.Name == arguments[0]);
        var (precision, microBatch, amdOption) = (arguments[1], int.Parse(arguments[2], CultureInfo.InvariantCulture), bool.Parse(arguments[3]));
        TorchRuntime.Initialize(new TorchRuntimeOptions { MklAvx512OnAmd = amdOption });
        var (wall, cpu) = (new List<double>(), new List<double>());
        var mark = Stopwatch.GetTimestamp();
        var used = Environment.CpuUsage.TotalTime;
        double flops = 0;
        long peak = 0;
        LoneTraining.Run(setUp.Spec(precision, microBatch), Vocabulary, replica =>
        {
            flops = replica.Model.FlopsPerToken(setUp.Context);
            var (now, usedNow) = (Stopwatch.GetTimestamp(), Environment.CpuUsage.TotalTime);
            if (replica.State.Step > setUp.Warmup)
            {
                wall.Add(Stopwatch.GetElapsedTime(mark, now).TotalMilliseconds);
                cpu.Add((usedNow - used).TotalMilliseconds);
            }

            // Before the checkpoint at the end of training, which the peer does not write.
            peak = replica.State.Step == setUp.Warmup + setUp.Steps ? MeasuredProcess.OwnPeakBytes() : 0;
            (mark, used) = (Stopwatch.GetTimestamp(), Environment.CpuUsage.TotalTime);
        });
        MeasuredProcess.Say("step_wall_ms", Spread.Of(wall).Median);
        MeasuredProcess.Say("step_cpu_ms", Spread.Of(cpu).Median);
        MeasuredProcess.Say("peak_bytes", peak);
        MeasuredProcess.Say("flops_per_token", flops);
        MeasuredProcess.Say("ceiling", ComputeCeiling.FlopsPerSecond(torch.CPU, Precisions.Parse(precision)!.Value));
        return 0;
    }

    /// <summary>Takes 1,000 steps and says how many tensors live, and how much memory is in use, early and at the end.</summary>
    public static int RunLive(string precision)
    {
        TorchRuntime.Initialize(new TorchRuntimeOptions { MklAvx512OnAmd = true });
        var setUp = new SetUp("small", 2, 2, 64, 32, 8, Steps: 1000, Warmup: 100);
        LoneTraining.Run(setUp.Spec(precision, 2), Vocabulary, replica =>
        {
            if (replica.State.Step == setUp.Warmup || replica.State.Step == setUp.Warmup + setUp.Steps)
            {
                MeasuredProcess.Say($"live_{(replica.State.Step == setUp.Warmup ? "early" : "late")}", torch.Tensor.TotalCount);
                MeasuredProcess.Say($"resident_{(replica.State.Step == setUp.Warmup ? "early" : "late")}", Environment.WorkingSet);
            }
        });
        return 0;
    }

    private static string GoalText => string.Join(", ", Goals.Select(g => g.ToString()));

    private static async Task MeasureAsync(SetUp setUp, string precision, int rounds, StringBuilder text, List<string> figures, List<string> failed)
    {
        Side Ours(string name, int microBatch, bool amdOption) => new(name, () => MeasuredProcess.RunPinnedAsync(SelfProgram, [.. SelfArguments, SelfCommand, setUp.Name, precision, $"{microBatch}", $"{amdOption}"]));
        List<Side> sides =
        [
            new("PyTorch", () => MeasuredProcess.RunPinnedAsync(Python, [Path.Combine(Machine.RepositoryRoot, "bench", "peers", "nanogpt_train.py"),
                $"{setUp.Layers}", $"{setUp.Heads}", $"{setUp.Width}", $"{setUp.Context}", $"{setUp.Batch}", $"{Vocabulary}", precision, $"{setUp.Steps}", $"{setUp.Warmup}"])),
            Ours("ours, AMD option", setUp.Batch, true),
            Ours("ours", setUp.Batch, false),
        ];
        if (precision == "fp32")
        {
            sides.Add(Ours("ours, AMD option, in 4 micro-batches", setUp.Batch / 4, true));
        }

        Console.WriteLine($"== {setUp.Name} {precision}");
        var results = await SideBySide.RunAsync(rounds, sides);
        var tokens = setUp.Batch * setUp.Context;
        double SaidBy(int side, string name) => Spread.Of(results[side].Runs.Select(r => MeasuredProcess.Said(r.Output, name) ?? double.NaN)).Median;
        Spread SpreadOf(int side, string name) => Spread.Of(results[side].Runs.Select(r => MeasuredProcess.Said(r.Output, name) ?? double.NaN));
        var (flops, ceiling) = (SaidBy(1, "flops_per_token"), results[1].Runs.Max(r => MeasuredProcess.Said(r.Output, "ceiling") ?? double.NaN));
        text.AppendLine().AppendLine(CultureInfo.InvariantCulture,
            $"## {setUp.Name} {precision}: {setUp.Layers} layers, {setUp.Heads} heads, {setUp.Width} wide, context {setUp.Context}, batch {setUp.Batch}\n");
        text.AppendLine(CultureInfo.InvariantCulture, $"{flops / 1e6:F2} MFLOP a token; ceiling {ceiling / 1e9:F0} GFLOP/s.\n");
        text.AppendLine("| | CPU ms a step | wall ms a step | times as fast (CPU; wall) | tokens/s | MFU | peak MB | of PyTorch's |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
        var (peerCpu, peerWall, peerPeak) = (SaidBy(0, "step_cpu_ms"), SaidBy(0, "step_wall_ms"), results[0].PeakBytes);
        for (var side = 0; side < sides.Count; side++)
        {
            var (cpu, wall) = (SpreadOf(side, "step_cpu_ms"), SpreadOf(side, "step_wall_ms"));
            text.AppendLine(CultureInfo.InvariantCulture,
                $"| {sides[side].Name} | {cpu} | {wall} | {peerCpu / cpu.Median:F2}; {peerWall / wall.Median:F2} | {1e3 * tokens / wall.Median:F0} | {flops * tokens / (cpu.Median / 1e3) / ceiling:P0} | {results[side].PeakBytes / 1e6:F0} | {results[side].PeakBytes / peerPeak:F2} |");
        }

        var (speed, memory) = (peerCpu / SaidBy(1, "step_cpu_ms"), results[1].PeakBytes / peerPeak);
        figures.Add(string.Create(CultureInfo.InvariantCulture, $"{setUp.Name} {precision} {speed:F2}x and {memory:F2} of the memory"));
        foreach (var goal in Goals.Where(g => g.SetUp == setUp.Name && g.Precision == precision))
        {
            if (!(speed >= goal.Speed))
            {
                failed.Add(string.Create(CultureInfo.InvariantCulture, $"{setUp.Name} {precision} is {speed:F2} times as fast, not {goal.Speed}"));
            }

            if (!(memory <= goal.Memory))
            {
                failed.Add(string.Create(CultureInfo.InvariantCulture, $"{setUp.Name} {precision} takes {memory:F2} of the memory, not {goal.Memory}"));
            }
        }
    }

    private static async Task MeasureLiveAsync(StringBuilder text, List<string> failed)
    {
        text.AppendLine().AppendLine("## Live tensors over 1,000 steps (2 layers, 64 wide, 4 micro-batches)\n\n| | tensors after 100 steps | after 1,100 | resident MB after 100 steps | after 1,100 |\n| --- | ---: | ---: | ---: | ---: |");
        foreach (var precision in new[] { "fp32", "bf16" })
        {
            var output = (await MeasuredProcess.RunPinnedAsync(SelfProgram, [.. SelfArguments, LiveCommand, precision])).Output;
            double SaidAs(string name) => MeasuredProcess.Said(output, name) ?? double.NaN;
            text.AppendLine(CultureInfo.InvariantCulture, $"| {precision} | {SaidAs("live_early")} | {SaidAs("live_late")} | {SaidAs("resident_early") / 1e6:F0} | {SaidAs("resident_late") / 1e6:F0} |");
            if (!SaidAs("live_early").Equals(SaidAs("live_late")))
            {
                failed.Add($"live tensors in {precision} went from {SaidAs("live_early")} to {SaidAs("live_late")}");
            }
        }
    }

    private static string SelfProgram => Environment.ProcessPath!;

    private static string[] SelfArguments => Path.GetFileNameWithoutExtension(SelfProgram) == "dotnet" ? [typeof(TrainSpeedBench).Assembly.Location] : [];

    private static async Task<string?> MissingAsync()
    {
        try
        {
            await Machine.OutputOfAsync("taskset", ["-c", "0", "true"]);
            await OutputOfPythonAsync("import torch, numpy; print(torch.__version__)");
            return null;
        }
        catch (Exception exception) when (exception is InvalidOperationException or System.ComponentModel.Win32Exception)
        {
            return $"the peer cannot be run: taskset, and {Python} with torch and numpy, are needed (Debian: python3-torch, libopenblas0-pthread). {exception.Message.Trim()}";
        }
    }

    private static async Task<string> OutputOfPythonAsync(string script) => (await Machine.OutputOfAsync(Python, ["-c", script])).Trim();

    private sealed record SetUp(string Name, int Layers, int Heads, int Width, int Context, int Batch, int Steps, int Warmup)
    {
        /// <summary>nanoGPT's: AdamW, decay 0.1, clipping at 1, no biases, no dropout.</summary>
        public RunSpec Spec(string precision, int microBatch) => new()
        {
            Model = new ModelSpec { Architecture = "gpt2", Layers = Layers, Heads = Heads, Width = Width, Context = Context, Dropout = 0, Bias = false },
            Training = new TrainingSpec { Steps = Warmup + Steps, BatchSize = Batch, MicroBatchSize = microBatch, Precision = precision },
        };
    }

    private sealed record Goal(string SetUp, string Precision, double Speed, double Memory)
    {
        public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{SetUp} {Precision} {Speed}x and at most {Memory} of the memory");
    }
}
