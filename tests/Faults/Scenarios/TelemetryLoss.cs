using System.Net;
using LlmPipeline.Faults.Proxy;
using LlmPipeline.Runs.V1;

namespace LlmPipeline.Faults.Scenarios;

/// <summary>Collectors of telemetry that do not take what is sent.</summary>
public static class TelemetryLoss
{
    // What was on its way when the collector changed, and the first failure of its kind, belong to no block.
    private const int SettlingSteps = 20;
    private const int FirstStep = 30;

    private static readonly IPEndPoint Nobody = new(IPAddress.Loopback, 1);

    // A cluster that exports all the time, not some times in a minute.
    private static readonly (string Key, string Value)[] Eager =
        [("OTEL_BSP_SCHEDULE_DELAY", "200"), ("OTEL_BLRP_SCHEDULE_DELAY", "200"), ("OTEL_METRIC_EXPORT_INTERVAL", "200")];

    private enum Collector
    {
        Answers,
        SaysNothing,
        IsGone,
    }

    /// <summary>
    /// 44: the collector answers, takes connections and says nothing, or is gone; in blocks of steps in a random order, within
    /// one run, so that all else is the same. Each block is compared with the one of its round in which it answers.
    /// </summary>
    public static Scenario InTurns { get; } = new(44, "the collector of telemetry answers, says nothing, is gone, in turns", 3, async context =>
    {
        var (setup, random, isLong) = context;
        var (rounds, blockSteps) = isLong ? (10, 150) : (2, 40);
        var steps = FirstStep + (3 * rounds * (SettlingSteps + blockSteps)) + 30;
        await setup.ReferenceAsync(steps);
        setup.Rest();
        await using var collector = await OtlpCollector.StartAsync();
        using var proxy = new FaultProxy(collector.Endpoint);
        using var cluster = new TrainingCluster(proxied: false, settings: [("OTEL_EXPORTER_OTLP_ENDPOINT", proxy.Address), .. Eager]);
        cluster.Restore(2);
        var run = await cluster.CreateAsync(ReferenceSetup.Spec(cluster, 2, steps));
        var step = FirstStep;
        await cluster.WaitForStepAsync(run, step);
        var blocks = new List<Block>();
        long taken = 0;
        var memory = new List<long[]>();
        for (var round = 0; round < rounds; round++)
        {
            var order = Enum.GetValues<Collector>();
            random.Shuffle(order);
            foreach (var state in order)
            {
                (proxy.Target, proxy.IsPartitioned) = (state == Collector.IsGone ? Nobody : collector.Endpoint, state == Collector.SaysNothing);
                proxy.Reset();
                await cluster.WaitForStepAsync(run, step += SettlingSteps);
                var (from, before, exports) = (DateTime.UtcNow, CpuSeconds(), collector.Exports);
                await cluster.WaitForStepAsync(run, step += blockSteps);
                blocks.Add(new Block(round, state, from, DateTime.UtcNow, CpuSeconds() - before));
                taken += state == Collector.Answers ? collector.Exports - exports : 0;
            }

            memory.Add([.. cluster.Workers.Select(w => w.Process.ResidentBytes)]);
        }

        (proxy.Target, proxy.IsPartitioned) = (collector.Endpoint, false);
        var outcome = await cluster.FinishAsync(run);
        await Scenario.SameAsync(setup, cluster, outcome);
        Scenario.Require(taken > 0, "Nothing was exported.", cluster, outcome);
        var measured = blocks.Select(block => (Block: block, Steps: StepsOf(outcome, block))).GroupBy(b => b.Block.Round).ToList();
        var shortest = measured.SelectMany(round => round).Min(b => b.Steps.Count);
        Scenario.Require(shortest >= 10, $"A block has only {shortest} steps.", cluster, outcome);

        // The short form only sees whether training waits for a collector.
        var goal = isLong ? 2 : 200;
        return
        [
            new Figure("largest change of the median step time, %", Change(b => Scenario.Median(b.Steps.Select(s => s.StepSeconds))), goal, IsTime: false),
            new Figure("largest change of the processor time of a step, %", Change(b => b.Block.CpuSeconds / b.Steps.Count), goal, IsTime: false),
            new Figure("memory that a worker gains after the first round, MB", memory[^1].Zip(memory[0], (after, before) => (after - before) / 1e6).Max(), 64, IsTime: false),
        ];

        double CpuSeconds() => cluster.Workers.Sum(w => w.Process.CpuTime.TotalSeconds);

        double Change(Func<(Block Block, IReadOnlyList<StepMetrics> Steps), double> measure) => new[] { Collector.SaysNothing, Collector.IsGone }
            .Max(state => Math.Abs(Scenario.Median(measured.Select(round => measure(round.First(b => b.Block.Collector == state)) / measure(round.First(b => b.Block.Collector == Collector.Answers)))) - 1) * 100);
    });

    private static IReadOnlyList<StepMetrics> StepsOf(TrainingOutcome outcome, Block block) =>
        [.. outcome.Steps.Where(s => s.Time.ToDateTime() > block.From && s.Time.ToDateTime() <= block.To)];

    private sealed record Block(int Round, Collector Collector, DateTime From, DateTime To, double CpuSeconds);
}
