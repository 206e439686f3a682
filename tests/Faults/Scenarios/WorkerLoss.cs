namespace LlmPipeline.Faults.Scenarios;

/// <summary>Workers that die, freeze or come late.</summary>
public static class WorkerLoss
{
    /// <summary>1: one of three is killed in the middle of a step.</summary>
    public static Scenario OneKilled { get; } = new(1, "one of three workers killed mid-step", 20, (setup, random) => KillAsync(setup, random, killed: 1, limit: 3));

    /// <summary>2: two of three are killed at once.</summary>
    public static Scenario TwoKilled { get; } = new(2, "two of three workers killed at once", 20, (setup, random) => KillAsync(setup, random, killed: 2, limit: 5));

    private static async Task<IReadOnlyList<Figure>> KillAsync(ReferenceSetup setup, Random random, int killed, double limit)
    {
        await setup.ReferenceAsync();
        var cluster = setup.Cluster(workers: 3);
        var run = await cluster.CreateAsync(ReferenceSetup.Spec(cluster, 3));
        var moment = await Scenario.InstantAsync(cluster, run, random);
        var victims = cluster.Workers.Take(3).OrderBy(_ => random.Next()).Take(killed).ToList();
        foreach (var victim in victims)
        {
            victim.Process.Signal("KILL");
        }

        var outcome = await cluster.FinishAsync(run);
        await Scenario.SameAsync(setup, cluster, outcome);
        foreach (var victim in victims)
        {
            Scenario.Require(outcome.Events("WORKER_LOST").Any(e => e.Message.Contains(victim.Process.Name, StringComparison.Ordinal)), $"No event says that {victim.Process.Name} is lost.", cluster, outcome);
        }

        return
        [
            new Figure("seconds from the kill to the next step", Scenario.SecondsToStep(cluster, outcome, moment, 3 - killed), limit),
            new Figure("steps lost", outcome.StepsRepeated(moment), 0, IsTime: false),
        ];
    }
}
