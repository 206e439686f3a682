using System.Net;
using LlmPipeline.Faults.Proxy;

namespace LlmPipeline.Faults.Scenarios;

/// <summary>Collectors of telemetry that do not take what is sent.</summary>
public static class TelemetryLoss
{
    // What was on its way when the collector changed, and the first failure of its kind, belong to no block.
    private const int SettlingSteps = 10;
    private const int FirstStep = 30;

    private static readonly IPEndPoint Nobody = new(IPAddress.Loopback, 1);

    // As often as Aspire's AppHost has services export: far more often than is usual in production.
    private static readonly (string Key, string Value)[] Intervals =
        [("OTEL_BSP_SCHEDULE_DELAY", "1000"), ("OTEL_BLRP_SCHEDULE_DELAY", "1000"), ("OTEL_METRIC_EXPORT_INTERVAL", "1000")];

    private enum Collector
    {
        Answers,

        // A second block of a round in which it answers: what a change is where there is none.
        AnswersToo,
        SaysNothing,
        IsGone,
    }

    /// <summary>
    /// 44: the collector answers, takes connections and says nothing, or is gone; in blocks of steps in a random order, within
    /// one run, so that all else is the same. Each block is compared with those of its round in which it answers, and these two
    /// with each other.
    /// </summary>
    public static Scenario InTurns { get; } = new(44, "the collector of telemetry answers, says nothing, is gone, in turns", 1, async context =>
    {
        var (setup, random, isLong) = context;
        // In the first rounds processes still compile, also what they do only when a collector fails.
        var (rounds, youngRounds, blockSteps) = isLong ? (45, 7, 40) : (2, 0, 30);
        var steps = FirstStep + (4 * rounds * (SettlingSteps + blockSteps)) + 30;
        await setup.ReferenceAsync(steps);
        setup.Rest();
        await using var collector = await OtlpCollector.StartAsync();
        using var proxy = new FaultProxy(collector.Endpoint);
        using var cluster = new TrainingCluster(proxied: false, settings: [("OTEL_EXPORTER_OTLP_ENDPOINT", proxy.Address), .. Intervals]);
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
        var times = outcome.Steps.Select(s => s.Time.ToDateTime()).ToArray();
        var measured = blocks.Where(b => b.Round >= youngRounds).Select(block => Costs.Of(block, outcome, times)).GroupBy(c => c.Round).ToList();
        var shortest = measured.SelectMany(round => round).Min(c => c.Steps);
        Scenario.Require(shortest >= 10, $"A block has only {shortest:0.#} steps.", cluster, outcome);

        // The short form only sees whether training waits for a collector.
        var goal = isLong ? 2 : 200;
        return
        [
            new Figure("largest change of the median step time, %", Largest(c => c.StepSeconds), goal, IsTime: false),
            new Figure("change of the median step time between two blocks in which it answers, % (for information)", Change(Collector.AnswersToo, c => c.StepSeconds), 200, IsTime: false),
            new Figure("largest change of the processor time of a step, %", Largest(c => c.CpuSeconds), goal, IsTime: false),
            new Figure("change of the processor time between two blocks in which it answers, % (for information)", Change(Collector.AnswersToo, c => c.CpuSeconds), 200, IsTime: false),
            new Figure("memory that a worker gains after the first round, MB", memory[^1].Zip(memory[0], (after, before) => (after - before) / 1e6).Max(), 64, IsTime: false),
        ];

        double CpuSeconds() => cluster.Workers.Sum(w => w.Process.CpuTime.TotalSeconds);

        double Largest(Func<Costs, double> measure) => Math.Max(Change(Collector.SaysNothing, measure), Change(Collector.IsGone, measure));

        // Of a block and those it is compared with, in percent: the mean of the middle half of the rounds.
        double Change(Collector state, Func<Costs, double> measure)
        {
            var ratios = measured.Select(round => Of(round, state) / (state == Collector.AnswersToo
                ? Of(round, Collector.Answers)
                : (Of(round, Collector.Answers) + Of(round, Collector.AnswersToo)) / 2)).Order().ToList();
            var quarter = ratios.Count / 4;
            return Math.Abs(ratios[quarter..^quarter].Average() - 1) * 100;

            double Of(IEnumerable<Costs> round, Collector which) => measure(round.First(c => c.Collector == which));
        }
    });

    private sealed record Block(int Round, Collector Collector, DateTime From, DateTime To, double CpuSeconds);

    // What the steps of a block took: the median of their times, and processor time of all workers a step.
    private sealed record Costs(int Round, Collector Collector, double Steps, double StepSeconds, double CpuSeconds)
    {
        public static Costs Of(Block block, TrainingOutcome outcome, DateTime[] times)
        {
            var steps = Position(times, block.To) - Position(times, block.From);
            return new Costs(block.Round, block.Collector, steps,
                Scenario.Median(outcome.Steps.Where(s => s.Time.ToDateTime() > block.From && s.Time.ToDateTime() <= block.To).Select(s => s.StepSeconds)),
                block.CpuSeconds / steps);
        }

        // Steps that were done at a moment, with the part of the one that was on.
        private static double Position(DateTime[] times, DateTime moment)
        {
            var done = times.TakeWhile(t => t <= moment).Count();
            return done == 0 || done == times.Length ? done : done + ((moment - times[done - 1]) / (times[done] - times[done - 1]));
        }
    }
}
