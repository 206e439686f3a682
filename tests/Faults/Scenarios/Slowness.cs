using LlmPipeline.Faults.Machine;

namespace LlmPipeline.Faults.Scenarios;

/// <summary>Workers and links that are slow.</summary>
public static class Slowness
{
    /// <summary>10: one worker has a tenth of a core.</summary>
    public static Scenario Straggler { get; } = new(10, "one of three workers limited to 10 % of a core", 3, async context =>
    {
        const int Steps = 80, Batch = 60, MicroBatch = 4;
        using var group = Cgroup.TryCreate("cpu", out var reason) ?? throw new ScenarioSkippedException($"Processor time cannot be limited: {reason}.");
        var reference = await context.Setup.ReferenceAsync(Steps, Batch, MicroBatch);
        context.Setup.Rest();
        using var cluster = new TrainingCluster(proxied: false);
        cluster.Add();
        cluster.Add();
        var slow = cluster.Add(group.Launcher).Process;
        cluster.Restore(3);
        var run = await cluster.CreateAsync(ReferenceSetup.Spec(cluster, 3, Steps, Batch, MicroBatch));
        await cluster.WaitForStepAsync(run, 20);
        var limited = DateTime.UtcNow;
        group.LimitCpu(0.1);
        var outcome = await cluster.FinishAsync(run);
        group.LimitCpu(null);
        Scenario.Require(outcome.DifferenceFrom(reference) is null, $"The result is not that of the undisturbed run: {outcome.DifferenceFrom(reference)}", cluster, outcome);
        var at = outcome.LastStepBefore(limited);
        var before = Scenario.Median(outcome.Steps.Where(s => s.Step > 5 && s.Step <= at).Select(s => s.StepSeconds));
        var after = Scenario.Median(outcome.Steps.Where(s => s.Step > at + 10 && !s.HasValidationLoss).Select(s => s.StepSeconds));
        return
        [
            // Two whole workers and a tenth share what three had; two cores do that in the same time or less.
            new Figure("step time against the balanced share", after / (before * 3 / 2.1), 1.5, IsTime: false),
            new Figure("times that the slow worker was lost", outcome.Events("WORKER_LOST").Count(e => e.Message.Contains(slow.Name, StringComparison.Ordinal)), 0, IsTime: false),
        ];
    });

    /// <summary>11: one worker is behind a link of 8 Mbit/s.</summary>
    public static Scenario SlowLink { get; } = new(11, "one of three workers behind a link of 8 Mbit/s", 1, async context =>
    {
        var steps = context.IsLong ? 30 : 3;
        var reference = await context.Setup.ReferenceAsync(steps);
        context.Setup.Rest();
        using var network = NetworkNamespace.TryCreate(out var reason) ?? throw new ScenarioSkippedException($"A link cannot be made slow: {reason}.");
        using var cluster = new TrainingCluster(proxied: true, TimeSpan.FromMinutes(25), network.HostAddress);
        cluster.Add();
        cluster.Add();
        cluster.Add(network.Launcher, network.Address);
        cluster.Restore(3);
        network.LimitRate(8000);
        var run = await cluster.CreateAsync(ReferenceSetup.Spec(cluster, 3, steps));
        var outcome = await cluster.FinishAsync(run);
        Scenario.Require(outcome.DifferenceFrom(reference) is null, $"The result is not that of the undisturbed run: {outcome.DifferenceFrom(reference)}", cluster, outcome);
        Scenario.Require(outcome.Steps.All(s => s.WorkerCount == 3), "Not all steps were taken by three workers.", cluster, outcome);
        return
        [
            new Figure("workers lost", outcome.Events("WORKER_LOST").Count(), 0, IsTime: false),
            new Figure("epochs", outcome.Events("EPOCH_STARTED").Count(), 1, IsTime: false),
            new Figure("seconds a step (for information)", outcome.Steps.Average(s => s.StepSeconds), 60),
        ];
    });
}
