using System.Diagnostics;
using System.Globalization;
using LlmPipeline.Bench.Measuring;
using LlmPipeline.Models;
using LlmPipeline.Runs.V1;
using LlmPipeline.Trainer.Collectives;
using LlmPipeline.Trainer.Worker;

namespace LlmPipeline.Bench.Exchange;

/// <summary>
/// One worker of bench efficiency, as a process: "PRECISION MODE WIRE MICRO_BATCHES STEPS" on standard input trains the baby
/// set-up for so many steps, and answers each with a line of CPU seconds, wall seconds, seconds of exchange hidden and not.
/// </summary>
internal static class EfficiencyWorker
{
    public const string Command = "efficiency-worker";

    /// <summary>Sequences of a worker and step.</summary>
    public const int Share = 8;

    private const int Warmup = 2;

    /// <summary>All-reduces before each measurement, and their elements: until some dozens are done, .NET compiles its busiest methods anew.</summary>
    private const int WarmUpExchanges = 25;
    private const int WarmUpLength = 10_000_000;

    public static async Task<int> RunAsync(string[] arguments)
    {
        var rank = int.Parse(arguments[0], CultureInfo.InvariantCulture);
        int[] ports = [.. arguments[1..].Select(a => int.Parse(a, CultureInfo.InvariantCulture))];
        TorchRuntime.Initialize(new TorchRuntimeOptions { MklAvx512OnAmd = true });
        var registry = new RingRegistry();
        await using var app = await AllReduceRank.ServeAsync(ports[rank], registry);
        Console.WriteLine("ready");
        for (var epoch = 1; Console.ReadLine() is { } line; epoch++)
        {
            var words = line.Split(' ');
            if (Ring() is { } warmUp)
            {
                registry.Enter(epoch++, warmUp);
                await WarmUpAsync(warmUp, AllReduceRank.Formats[words[2] == "bf16" ? $"{words[1]}-bf16" : words[1]]);
                await warmUp.DisposeAsync();
            }

            await using var ring = Ring();
            registry.Enter(epoch, ring);
            Train(words, new RingPlace(ring, rank, ports.Length));
            Console.WriteLine("done");

            GrpcRingTransport? Ring() => ports.Length > 1 ? new GrpcRingTransport(epoch, rank, [.. ports.Select(port => $"http://localhost:{port}")]) : null;
        }

        return 0;
    }

    private static async Task WarmUpAsync(GrpcRingTransport ring, ExchangeFormat format)
    {
        var reduce = new RingAllReduce(ring);
        var values = new float[WarmUpLength];
        var buffer = new ExchangeBuffer(values.Length, 8, () => values, format: format);
        for (var step = 1; step <= WarmUpExchanges; step++)
        {
            buffer.Clear();
            buffer.AddLast(0, values.Length, 1);
            await reduce.RunAsync(step, Buckets.Gradients, buffer);
        }
    }

    private static void Train(string[] words, RingPlace place)
    {
        var (microBatches, steps) = (int.Parse(words[3], CultureInfo.InvariantCulture), int.Parse(words[4], CultureInfo.InvariantCulture));
        var spec = new RunSpec
        {
            Model = new ModelSpec { Architecture = "gpt2", Layers = 6, Heads = 6, Width = 384, Context = 256, Dropout = 0, Bias = false },
            Training = new TrainingSpec
            {
                Steps = Warmup + steps,
                BatchSize = Share * place.Size,
                MicroBatchSize = Share / microBatches,
                Precision = words[0],
                Exchange = new ExchangeSpec { Mode = words[1], Wire = words[2] },
            },
        };
        var (mark, used) = (Stopwatch.GetTimestamp(), Environment.CpuUsage.TotalTime);
        var times = new List<(double Cpu, double Wall)>();
        var numbers = LoneTraining.Run(spec, 65, _ =>
        {
            times.Add(((Environment.CpuUsage.TotalTime - used).TotalSeconds, Stopwatch.GetElapsedTime(mark).TotalSeconds));
            (mark, used) = (Stopwatch.GetTimestamp(), Environment.CpuUsage.TotalTime);
        }, place: place);

        // Rank 0 reports the steps. The first call tells that the state is there.
        var done = times.Skip(times.Count - steps).ToList();
        for (var i = 0; i < steps; i++)
        {
            var metrics = place.Rank == 0 ? numbers[numbers.Count - steps + i] : new StepMetrics();
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{done[i].Cpu} {done[i].Wall} {metrics.HiddenExchangeSeconds} {metrics.ExchangeSeconds}"));
        }
    }
}
