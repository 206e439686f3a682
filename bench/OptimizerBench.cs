using System.Diagnostics;
using System.Globalization;
using LlmPipeline.Bench.Measuring;
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

            {ParameterCount:N0} parameters, fp32, one thread, {rounds} processes a side in turn, {Steps} steps each, of which the median counts. A step is: the global norm of the gradient, the factor that clips it, and the update of parameters and both moments with decoupled decay. Not in it: setting gradients to 0 (here it happens where they are summed, in nanoGPT they are dropped).

            | | wall ms, median (min-max) | CPU ms, median (min-max) | as many times ours (CPU) |
            | --- | ---: | ---: | ---: |
            {string.Join('\n', results.Select(r => string.Create(CultureInfo.InvariantCulture, $"| {r.Name} | {Milliseconds(r.Wall)} | {Milliseconds(r.Cpu)} | {r.Cpu.Median / ours.Cpu.Median:F2} |")))}

            Ours in parts, wall time, median over the processes: norm {Part(ours, "norm_seconds"):F2} ms, update {Part(ours, "update_seconds"):F2} ms. The update reads 16 bytes and writes 12 for each parameter: {28.0 * ParameterCount / 1e6 / Part(ours, "update_seconds"):F1} GB/s.

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
        var gradients = Numbers(2e-3);
        float[][] state = [.. optimizer.StateNames.Select(_ => new float[ParameterCount])];
        var (norms, updates, walls, cpus) = (new List<double>(), new List<double>(), new List<double>(), new List<double>());
        for (var step = 1; step <= Steps; step++)
        {
            var (cpu, start) = (ThreadCpu.Seconds, Stopwatch.GetTimestamp());
            var factor = GradientNorm.ClipFactor(GradientNorm.Compute(gradients), 1);
            var middle = Stopwatch.GetTimestamp();
            optimizer.Update(step, 1e-3, factor, DecayedCount, parameters, gradients, state);
            walls.Add(Stopwatch.GetElapsedTime(start).TotalSeconds);
            cpus.Add(ThreadCpu.Seconds - cpu);
            norms.Add(Stopwatch.GetElapsedTime(start, middle).TotalSeconds);
            updates.Add(Stopwatch.GetElapsedTime(middle).TotalSeconds);
        }

        Say("wall_seconds", walls);
        Say("cpu_seconds", cpus);
        Say("norm_seconds", norms);
        Say("update_seconds", updates);
        return 0;

        float[] Numbers(double scale) => [.. Enumerable.Range(0, ParameterCount).Select(_ => (float)((random.NextDouble() - 0.5) * scale))];

        static void Say(string name, List<double> seconds) =>
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{name}={Spread.Of(seconds.Skip(5)).Median:R}"));
    }

    private static Side PyTorch(string form) => new($"PyTorch 1.13, {form}", () => MeasuredProcess.RunAsync(
        Python, [TokenizerTrainBench.Peer("optimizer.py"), form, $"{Steps}"],
        environment: new Dictionary<string, string> { ["OMP_NUM_THREADS"] = "1", ["OPENBLAS_CORETYPE"] = "SKYLAKEX" }));

    private static string Milliseconds(Spread seconds) =>
        string.Create(CultureInfo.InvariantCulture, $"{seconds.Median * 1e3:F2} ({seconds.Min * 1e3:F2}-{seconds.Max * 1e3:F2})");

    private static double Part(Measured side, string name) => Spread.Of(side.Runs.Select(r => MeasuredProcess.Said(r.Output, name)!.Value)).Median * 1e3;
}
