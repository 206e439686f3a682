namespace LlmPipeline.Faults.Scenarios;

/// <summary>The same run again: in pieces, on other numbers of workers, from the beginning.</summary>
public static class Repetition
{
    /// <summary>8: stopped after 137 steps and resumed, on 1, then 2, then 4 workers.</summary>
    public static Scenario Resumed { get; } = new(8, "killed at step 137 and resumed, on 1, 2 and 4 workers", 3, async context =>
    {
        var (setup, random, _) = context;
        await setup.ReferenceAsync();
        var cluster = setup.Cluster(workers: 1);
        var run = await cluster.CreateAsync(ReferenceSetup.Spec(cluster, 1));
        foreach (var (step, workers) in new[] { (137, 2), (random.Next(160, 240), 4) })
        {
            await cluster.WaitForStepAsync(run, step);
            cluster.Pipeline.Coordinator.Kill();
            cluster.Rest();
            cluster.Restore(workers);
        }

        var outcome = await cluster.FinishAsync(run);
        await Scenario.SameAsync(setup, cluster, outcome);
        var used = outcome.Steps.Select(s => s.WorkerCount).Distinct().Order().ToList();
        Scenario.Require(used.Count > 1, $"All steps were taken by {used[0]} workers.", cluster, outcome);
        return [new Figure("differences", 0, 0, IsTime: false)];
    });

    /// <summary>9: the run from the beginning, on other numbers of workers.</summary>
    public static Scenario Again { get; } = new(9, "identical runs", 5, async context =>
    {
        var (setup, random, isLong) = context;
        var steps = isLong ? 300 : 100;
        await setup.ReferenceAsync(steps);
        var workers = random.Next(1, 4);
        var cluster = setup.Cluster(workers);
        var outcome = await cluster.FinishAsync(await cluster.CreateAsync(ReferenceSetup.Spec(cluster, workers, steps)));
        await Scenario.SameAsync(setup, cluster, outcome);
        return [new Figure("differences", 0, 0, IsTime: false)];
    });

    /// <summary>9: the run on two threads, twice. Its bits are not those of the run on one thread, but always the same.</summary>
    public static Scenario OnTwoThreads { get; } = new(9, "identical runs on two threads", 5, async context =>
    {
        context.Setup.Rest();
        using var cluster = new TrainingCluster(proxied: false, settings: ("Torch__Threads", "2"));
        var outcomes = new List<TrainingOutcome>();
        for (var run = 0; run < 2; run++)
        {
            // Each in a process of its own.
            cluster.Rest();
            cluster.Restore(1);
            outcomes.Add(await cluster.FinishAsync(await cluster.CreateAsync(ReferenceSetup.Spec(cluster, 1, context.IsLong ? 300 : 100))));
        }

        var difference = outcomes[1].DifferenceFrom(outcomes[0]);
        Scenario.Require(difference is null, $"Two runs on two threads differ: {difference}", cluster, outcomes[1]);
        return [new Figure("differences", 0, 0, IsTime: false)];
    }, "b");
}
