using System.Diagnostics;
using System.Globalization;
using System.Net;
using LlmPipeline.Bench.Measuring;
using LlmPipeline.Models;
using LlmPipeline.Runs.V1;
using LlmPipeline.Trainer.Collectives;
using LlmPipeline.Trainer.Worker;

namespace LlmPipeline.Bench.Exchange;

/// <summary>
/// One worker of bench efficiency, as a process: "PRECISION MODE WIRE MICRO_BATCHES ROUNDS STEPS" on standard input begins to train the
/// baby set-up, and answers "done" when it is warm. Then each line begins a round of so many steps, each answered with a line of CPU
/// seconds, wall seconds, seconds of exchange hidden and not. After the last round the next training may begin.
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
        await using var app = await AllReduceRank.ServeAsync(IPAddress.Loopback, ports[rank], registry);
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
        int[] numbers = [.. words[3..].Select(w => int.Parse(w, CultureInfo.InvariantCulture))];
        var (microBatches, rounds, steps) = (numbers[0], numbers[1], numbers[2]);
        var spec = new RunSpec
        {
            Model = new ModelSpec { Architecture = "gpt2", Layers = 6, Heads = 6, Width = 384, Context = 256, Dropout = 0, Bias = false },
            Training = new TrainingSpec
            {
                Steps = Warmup + (rounds * steps),
                BatchSize = Share * place.Size,
                MicroBatchSize = Share / microBatches,
                Precision = words[0],
                Exchange = new ExchangeSpec { Mode = words[1], Wire = words[2] },
            },
        };
        var (mark, used) = (0L, TimeSpan.Zero);
        LoneTraining.Run(spec, 65, replica =>
        {
            var done = (int)replica.State.Step;
            if (done > Warmup)
            {
                var (cpu, wall) = (Environment.CpuUsage.TotalTime - used, Stopwatch.GetElapsedTime(mark));
                var metrics = replica.History[^1];
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{cpu.TotalSeconds} {wall.TotalSeconds} {metrics.HiddenExchangeSeconds} {metrics.ExchangeSeconds}"));
            }

            if (done >= Warmup && (done - Warmup) % steps == 0)
            {
                Console.WriteLine("done");
                if (done < spec.Training.Steps)
                {
                    Console.ReadLine();
                }
            }

            (mark, used) = (Stopwatch.GetTimestamp(), Environment.CpuUsage.TotalTime);
        }, place: place);
    }
}
