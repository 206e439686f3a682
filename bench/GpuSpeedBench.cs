using System.Diagnostics;
using System.Globalization;
using System.Text;
using LlmPipeline.Bench.Measuring;
using LlmPipeline.Models;
using LlmPipeline.Runs.V1;

namespace LlmPipeline.Bench;

/// <summary>
/// Steps of training on a GPU, beside nanoGPT's model and loop in the PyTorch whose libtorch is taken here too, eager and compiled.
/// Each side is a process, in turn.
/// </summary>
internal static class GpuSpeedBench
{
    public const string SelfCommand = "gpu-speed-self";

    private const string Python = "python3";
    private const double Goal = 1;

    private static readonly SetUp[] SetUps =
    [
        new("baby bf16", 6, 6, 384, 256, 64, 65, "bf16", Dropout: 0.2, Steps: 300, Warmup: 30),
        new("GPT-2 124M bf16", 12, 12, 768, 1024, 16, 50304, "bf16", Dropout: 0, Steps: 60, Warmup: 10),
    ];

    public static async Task<int> RunAsync(int rounds)
    {
        var gpu = (await Machine.OutputOfAsync("nvidia-smi", ["--query-gpu=name,driver_version", "--format=csv,noheader"])).Trim();
        var (version, library) = (await Machine.OutputOfAsync(Python, ["-c", "import os, torch; print(torch.__version__, os.path.join(os.path.dirname(torch.__file__), 'lib'))"])).Trim().Split(' ') is [var v, var l]
            ? (v, l) : throw new InvalidOperationException($"{Python} does not say where its torch is.");
        var text = new StringBuilder($"# gpu-speed: steps on a GPU beside nanoGPT in PyTorch\n\n{await Machine.DescribeAsync("dotnet run -c Release --project bench -p:TorchBackend=none -- gpu-speed")}\n");
        text.AppendLine(CultureInfo.InvariantCulture, $"- GPU: {gpu}; PyTorch {version}, whose libtorch both sides compute with");
        text.AppendLine(CultureInfo.InvariantCulture, $"- {rounds} processes a side, in turn; medians, range in brackets. Ours is the trainer's own loop, which waits for the loss and the norm of each step; PyTorch's waits for nothing until the end, and a step is the mean");
        text.AppendLine("- MFU: of the fastest matrix product here, in the same precision. Memory: what the driver says is in use on the GPU at the end, libraries included");
        var slowest = double.MaxValue;
        foreach (var setUp in SetUps)
        {
            slowest = Math.Min(slowest, await MeasureAsync(setUp, rounds, library, text));
        }

        text.AppendLine().Append(CultureInfo.InvariantCulture, $"gpu-speed: {slowest:F2} times as fast as eager PyTorch in the slowest case (goal {Goal:F0})");
        await Machine.PublishAsync("gpu-speed", text.ToString());
        return slowest >= Goal ? 0 : 1;
    }

    /// <summary>Trains in this process and says what a step took.</summary>
    public static int RunSelf(string name)
    {
        var setUp = SetUps.Single(s => s.Name == name);
        TorchRuntime.Initialize();
        var device = TorchRuntime.ResolveDevice("cuda");
        var wall = new List<double>();
        var mark = Stopwatch.GetTimestamp();
        var flops = 0.0;
        LoneTraining.Run(setUp.Spec, setUp.Vocabulary, replica =>
        {
            if (replica.State.Step > setUp.Warmup)
            {
                wall.Add(Stopwatch.GetElapsedTime(mark).TotalMilliseconds);
            }

            flops = replica.Model.FlopsPerToken(setUp.Context);
            if (replica.State.Step == setUp.Warmup + setUp.Steps)
            {
                MeasuredProcess.Say("device_bytes", UsedBytes());
            }

            mark = Stopwatch.GetTimestamp();
        }, device: device);
        MeasuredProcess.Say("step_wall_ms", wall.Average());
        MeasuredProcess.Say("step_median_ms", Spread.Of(wall).Median);
        MeasuredProcess.Say("flops_per_token", flops);
        MeasuredProcess.Say("ceiling", ComputeCeiling.FlopsPerSecond(device, Precisions.Parse(setUp.Precision)!.Value));
        return 0;
    }

    private static async Task<double> MeasureAsync(SetUp setUp, int rounds, string library, StringBuilder text)
    {
        var self = MeasuredProcess.SelfCommand(SelfCommand, setUp.Name);
        var environment = new Dictionary<string, string> { [$"{TorchRuntimeOptions.Section}__{nameof(TorchRuntimeOptions.LibraryPath)}"] = library };
        Side PyTorch(string mode) => new($"PyTorch, {mode}", () => MeasuredProcess.RunAsync(Python, [Path.Combine(Machine.RepositoryRoot, "bench", "peers", "nanogpt_train.py"),
            $"{setUp.Layers}", $"{setUp.Heads}", $"{setUp.Width}", $"{setUp.Context}", $"{setUp.Batch}", $"{setUp.Vocabulary}", setUp.Precision, $"{setUp.Steps}", $"{setUp.Warmup}",
            "cuda", mode, setUp.Dropout.ToString(CultureInfo.InvariantCulture)]));
        Console.WriteLine($"== {setUp.Name}");
        var results = await SideBySide.RunAsync(rounds, PyTorch("eager"), PyTorch("compiled"), new Side("ours", () => MeasuredProcess.RunAsync(self[0], self[1..], environment: environment)));
        Spread SpreadOf(Measured side, string name) => Spread.Of(side.Runs.Select(r => MeasuredProcess.Said(r.Output, name) ?? double.NaN));
        var (flops, ceiling) = (SpreadOf(results[2], "flops_per_token").Median, SpreadOf(results[2], "ceiling").Max);
        var tokens = (double)setUp.Batch * setUp.Context;
        text.AppendLine().AppendLine(CultureInfo.InvariantCulture,
            $"## {setUp.Name}: {setUp.Layers} layers, {setUp.Heads} heads, {setUp.Width} wide, context {setUp.Context}, batch {setUp.Batch}, {setUp.Vocabulary} ids, dropout {setUp.Dropout}\n");
        text.AppendLine(CultureInfo.InvariantCulture, $"{flops / 1e6:F0} MFLOP a token; ceiling {ceiling / 1e12:F0} TFLOP/s.\n");
        text.AppendLine("| | wall ms a step | times as fast as eager | tokens/s | MFU | GPU memory, MB |\n| --- | ---: | ---: | ---: | ---: | ---: |");
        var (eager, begin) = (SpreadOf(results[0], "step_wall_ms").Median, text.Length);
        foreach (var side in results)
        {
            var wall = SpreadOf(side, "step_wall_ms");
            text.AppendLine(CultureInfo.InvariantCulture,
                $"| {side.Name} | {wall} | {eager / wall.Median:F2} | {1e3 * tokens / wall.Median:F0} | {flops * tokens / (wall.Median / 1e3) / ceiling:P1} | {SpreadOf(side, "device_bytes").Median / 1e6:F0} |");
        }

        Console.WriteLine(text.ToString(begin, text.Length - begin));
        return eager / SpreadOf(results[2], "step_wall_ms").Median;
    }

    private static double UsedBytes() =>
        1024 * 1024 * double.Parse(Machine.OutputOfAsync("nvidia-smi", ["--query-gpu=memory.used", "--format=csv,noheader,nounits"]).GetAwaiter().GetResult(), CultureInfo.InvariantCulture);

    private sealed record SetUp(
        string Name, int Layers, int Heads, int Width, int Context, int Batch, int Vocabulary, string Precision, double Dropout, int Steps, int Warmup)
    {
        /// <summary>nanoGPT's: AdamW, decay 0.1, clipping at 1, no biases.</summary>
        public RunSpec Spec => new()
        {
            Model = new ModelSpec { Architecture = "gpt2", Layers = Layers, Heads = Heads, Width = Width, Context = Context, Dropout = Dropout, Bias = false },
            Training = new TrainingSpec { Steps = Warmup + Steps, BatchSize = Batch, MicroBatchSize = Batch, Precision = Precision },
        };
    }
}
