using System.Diagnostics;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using LlmPipeline.Bench.Measuring;
using LlmPipeline.Trainer.Collectives;
using LlmPipeline.Trainer.Optimizers;

namespace LlmPipeline.Bench;

/// <summary>One step of AdamW, clipping included, over the 10.7 million parameters of a Transformer of 6 layers and width 384, on one core.</summary>
internal static class OptimizerBench
{
    /// <summary>The hidden command that is our side.</summary>
    public const string SelfCommand = "optimizer-self";

    // Debian's, whose package python3-torch it is.
    private const string Python = "/usr/bin/python3";

    private const int Steps = 60;
    private const int ParameterCount = 10_745_088;
    private const int DecayedCount = 10_740_096;
    private const double GoalMilliseconds = 7;

    public static async Task<int> RunAsync(int rounds)
    {
        var results = await SideBySide.RunAsync(rounds,
            new Side("LlmPipeline", () => MeasuredProcess.RunSelfAsync(SelfCommand)),
            PyTorch("for-loop"),
            PyTorch("foreach"));
        foreach (var peer in results.Skip(1))
        {
            if (MeasuredProcess.Said(peer.Runs[0].Output, "parameters") != ParameterCount)
            {
                throw new InvalidOperationException($"{peer.Name} has {MeasuredProcess.Said(peer.Runs[0].Output, "parameters")} parameters instead of {ParameterCount}.");
            }
        }

        var ours = results[0];
        var milliseconds = ours.Wall.Median * 1e3;
        var last = string.Create(CultureInfo.InvariantCulture, $"optimizer: {milliseconds:F2} ms (goal {GoalMilliseconds:F0} ms)");
        var machine = await Machine.DescribeAsync("dotnet run -c Release --project bench -- optimizer");
        await Machine.PublishAsync("optimizer", string.Create(CultureInfo.InvariantCulture, $"""
            # A step of AdamW

            {machine}

            {ParameterCount:N0} parameters, fp32, one thread, {rounds} processes a side in turn, {Steps} steps each, of which the median counts. A step is: the global norm of the gradient, the factor that clips it, and the update of parameters and both moments with decoupled decay. The norm has no pass over memory of its own: it is taken where exact sums become fp32, and what counts is by how much that pass becomes longer. Not in a step: setting gradients to 0 (here it happens where they are summed, in nanoGPT they are dropped).

            | | wall ms, median (min-max) | CPU ms, median (min-max) | as many times ours (CPU) |
            | --- | ---: | ---: | ---: |
            {string.Join('\n', results.Select(r => string.Create(CultureInfo.InvariantCulture, $"| {r.Name} | {Milliseconds(r.Wall)} | {Milliseconds(r.Cpu)} | {r.Cpu.Median / ours.Cpu.Median:F2} |")))}

            Ours in parts, CPU time, median over the processes: norm {Part(ours, "norm_seconds"):F2} ms (as a pass of its own {Part(ours, "norm_pass_seconds"):F2} ms), update {Part(ours, "update_seconds"):F2} ms. The update reads 16 bytes and writes 12 for each parameter: {28.0 * ParameterCount / 1e6 / Part(ours, "update_seconds"):F1} GB/s. The machine's limit in the same processes, the same traffic with nothing but an addition: {Part(ours, "bare_seconds"):F2} ms, of which the update takes {Part(ours, "update_seconds") / Part(ours, "bare_seconds"):F2} times as much.

            {last}
            """));
        return milliseconds <= GoalMilliseconds ? 0 : 1;
    }

    /// <summary>Our side: steps as the training loop takes them; prints the median.</summary>
    public static int RunSelf()
    {
        var random = new Random(1);
        var optimizer = new Adam { Beta1 = 0.9, Beta2 = 0.99, Epsilon = 1e-8, WeightDecay = 0.1 };
        var parameters = Numbers(0.04);
        float[][] state = [.. optimizer.StateNames.Select(_ => new float[ParameterCount])];
        var exchange = new ExchangeBuffer(ParameterCount, 0);
        var (gradient, addend) = (Numbers(2e-3), new float[ParameterCount]);
        float[][] others = [.. Enumerable.Range(0, 3).Select(_ => new float[ParameterCount])];
        var (sums, norms, passes, updates, bare) = (new Laps(), new Laps(), new Laps(), new Laps(), new Laps());
        for (var step = 1; step <= Steps; step++)
        {
            gradient.CopyTo(addend, 0);
            exchange.Clear();
            exchange.Add(addend, 1);
            sums.Measure(() => FixedPoint.ToSingle(exchange.Sums, exchange.Gradients));
            var factor = 0f;
            norms.Measure(() =>
            {
                exchange.Finish();
                factor = GradientNorm.ClipFactor(exchange.Norm(), 1);
            });
            passes.Measure(() => GradientNorm.Compute(exchange.Gradients));
            updates.Measure(() => optimizer.Update(step, 1e-3, factor, DecayedCount, parameters, exchange.Gradients, state));
            bare.Measure(() => AddToEach(exchange.Gradients, others[0], others[1], others[2]));
        }

        MeasuredProcess.Say("wall_seconds", updates.Wall + norms.Wall - sums.Wall);
        MeasuredProcess.Say("cpu_seconds", updates.Cpu + norms.Cpu - sums.Cpu);
        MeasuredProcess.Say("norm_seconds", norms.Cpu - sums.Cpu);
        MeasuredProcess.Say("norm_pass_seconds", passes.Cpu);
        MeasuredProcess.Say("update_seconds", updates.Cpu);
        MeasuredProcess.Say("bare_seconds", bare.Cpu);
        return 0;

        float[] Numbers(double scale) => [.. Enumerable.Range(0, ParameterCount).Select(_ => (float)((random.NextDouble() - 0.5) * scale))];
    }

    /// <summary>The update's traffic without its arithmetic: what memory allows on one core.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AddToEach(ReadOnlySpan<float> addend, Span<float> first, Span<float> second, Span<float> third)
    {
        ref var a = ref MemoryMarshal.GetReference(addend);
        ref var x = ref MemoryMarshal.GetReference(first);
        ref var y = ref MemoryMarshal.GetReference(second);
        ref var z = ref MemoryMarshal.GetReference(third);
        for (nuint i = 0; i < (nuint)addend.Length; i += (nuint)Vector512<float>.Count)
        {
            var addends = Vector512.LoadUnsafe(ref a, i);
            (Vector512.LoadUnsafe(ref x, i) + addends).StoreUnsafe(ref x, i);
            (Vector512.LoadUnsafe(ref y, i) + addends).StoreUnsafe(ref y, i);
            (Vector512.LoadUnsafe(ref z, i) + addends).StoreUnsafe(ref z, i);
        }
    }

    private static Side PyTorch(string form) => new($"PyTorch 1.13, {form}", () => MeasuredProcess.RunAsync(
        Python, [TokenizerTrainBench.Peer("optimizer.py"), form, $"{Steps}"],
        environment: new Dictionary<string, string> { ["OMP_NUM_THREADS"] = "1", ["OPENBLAS_CORETYPE"] = "SKYLAKEX" }));

    private static string Milliseconds(Spread seconds) =>
        string.Create(CultureInfo.InvariantCulture, $"{seconds.Median * 1e3:F2} ({seconds.Min * 1e3:F2}-{seconds.Max * 1e3:F2})");

    private static double Part(Measured side, string name) => Spread.Of(side.Runs.Select(r => MeasuredProcess.Said(r.Output, name)!.Value)).Median * 1e3;

    /// <summary>Times of one part in every step; medians without the first steps.</summary>
    private sealed class Laps
    {
        private const int Warmup = 5;
        private readonly List<(double Wall, double Cpu)> _laps = [];

        public double Wall => Spread.Of(_laps.Skip(Warmup).Select(l => l.Wall)).Median;

        public double Cpu => Spread.Of(_laps.Skip(Warmup).Select(l => l.Cpu)).Median;

        public void Measure(Action part)
        {
            var (cpu, start) = (ThreadCpu.Seconds, Stopwatch.GetTimestamp());
            part();
            _laps.Add((Stopwatch.GetElapsedTime(start).TotalSeconds, ThreadCpu.Seconds - cpu));
        }
    }
}
