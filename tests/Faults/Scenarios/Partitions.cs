using LlmPipeline.Faults.Machine;

namespace LlmPipeline.Faults.Scenarios;

/// <summary>Networks that are cut, both ways and one way; and messages that are not what they should be.</summary>
public static class Partitions
{
    /// <summary>12: the coordinator and one worker do not hear each other for 2 s, then for longer.</summary>
    public static Scenario FromCoordinator { get; } = new(12, "coordinator and one worker partitioned for 2 s and 30 s", 5, async context =>
    {
        var (setup, random, isLong) = context;
        var steps = await setup.StepsForAsync(seconds: isLong ? 50 : 25);
        var cluster = setup.Cluster(workers: 3, proxied: true);
        var run = await cluster.CreateAsync(ReferenceSetup.Spec(cluster, 3, steps));
        await cluster.WaitForStepAsync(run, random.Next(10, 40));
        var victim = cluster.Workers[random.Next(3)];
        victim.Upstream!.IsPartitioned = true;
        await Task.Delay(TimeSpan.FromSeconds(2));
        victim.Heal();
        var healed = DateTime.UtcNow;
        await cluster.WaitForStepAsync(run, random.Next(60, 100));
        return await CutAsync(context, cluster, run, victim, () => victim.Upstream.IsPartitioned = true, victim.Heal, isLong ? 30 : 9,
            outcome => new Figure("workers lost by 2 s of partition", outcome.Events("WORKER_LOST").Count(e => e.Time.ToDateTime() < healed), 0, IsTime: false));
    });

    /// <summary>13: one worker can send and not receive, and one packet of a hundred is lost.</summary>
    public static Scenario OneWay { get; } = new(13, "one worker can send and not receive, and 1 % of packets are lost", 3, async context =>
    {
        var (setup, random, isLong) = context;
        var steps = await setup.StepsForAsync(seconds: isLong ? 50 : 25);
        setup.Rest();
        using var network = NetworkNamespace.TryCreate(out var reason) ?? throw new ScenarioSkippedException($"A network cannot be cut one way: {reason}.");
        using var cluster = new TrainingCluster(proxied: true, TimeSpan.FromMinutes(10), network.HostAddress);
        cluster.Add();
        cluster.Add();
        var victim = cluster.Add(network.Launcher, network.Address);
        cluster.Restore(3);
        var run = await cluster.CreateAsync(ReferenceSetup.Spec(cluster, 3, steps));
        await cluster.WaitForStepAsync(run, random.Next(5, 20));
        network.Lose(0.01);
        await cluster.WaitForStepAsync(run, random.Next(40, 60));
        return await CutAsync(context, cluster, run, victim, network.CutIncoming, () =>
        {
            network.Heal();
            network.Lose(0.01);
        }, isLong ? 30 : 9, outcome => new Figure("workers lost by lost packets", outcome.Events("WORKER_LOST").Count() - 1, 0, IsTime: false));
    });

    /// <summary>15: chunks of one worker are not what is due.</summary>
    public static Scenario WrongChunk { get; } = new(15, "a worker sends a gradient of the wrong shape", 5, async context =>
    {
        var (setup, random, _) = context;
        await setup.ReferenceAsync();
        var cluster = setup.Cluster(workers: 3, proxied: true);
        var run = await cluster.CreateAsync(ReferenceSetup.Spec(cluster, 3));
        await Scenario.InstantAsync(cluster, run, random);
        var victim = cluster.Workers[random.Next(3)];
        var changed = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        victim.Peers!.FromTarget.Tamper = bytes =>
        {
            // The number of elements at the end of the first chunk's header.
            if (bytes.IndexOf("LLG"u8) is >= 0 and var at && at + 40 <= bytes.Length && changed.TrySetResult())
            {
                bytes[at + 36] ^= 1;
            }
        };
        await changed.Task.WaitAsync(cluster.Pipeline.Limit);
        var moment = DateTime.UtcNow;
        victim.Peers.FromTarget.Tamper = null;
        var outcome = await cluster.FinishAsync(run);
        await Scenario.SameAsync(setup, cluster, outcome);
        var told = outcome.Run.Events.FirstOrDefault(e => e.Message.Contains("something else than was due", StringComparison.Ordinal));
        Scenario.Require(told is not null, "No event tells of the wrong chunk.", cluster, outcome);
        return
        [
            new Figure("seconds to the next step", Scenario.SecondsToStep(cluster, outcome, moment, null), 3),
            new Figure("steps lost", outcome.StepsRepeated(moment), 0, IsTime: false),
        ];
    });

    private static async Task<IReadOnlyList<Figure>> CutAsync(
        ScenarioContext context, TrainingCluster cluster, string run, ClusterWorker victim, Action cut, Action heal, int seconds, Func<TrainingOutcome, Figure> further)
    {
        var moment = DateTime.UtcNow;
        cut();
        await Task.Delay(TimeSpan.FromSeconds(seconds));
        await cluster.Pipeline.WaitAsync(run, "an epoch without the worker", r => r.Workers.Count < 3 || TrainingCluster.IsTrained(r));
        var healed = DateTime.UtcNow;
        heal();
        var outcome = await cluster.FinishAsync(run);
        await Scenario.SameAsync(context.Setup, cluster, outcome);
        var lost = outcome.Events("WORKER_LOST").LastOrDefault(e => e.Message.Contains(victim.Process.Name, StringComparison.Ordinal));
        Scenario.Require(lost is not null, $"No event says that {victim.Process.Name} is lost.", cluster, outcome);
        var figures = new List<Figure>
        {
            further(outcome),
            new("seconds until the worker is evicted", (lost!.Time.ToDateTime() - moment).TotalSeconds, 5),
            new("steps lost", outcome.StepsRepeated(moment), 0, IsTime: false),
        };

        // A short run may be over before the worker is back.
        if (outcome.Steps[^1].Time.ToDateTime() > healed.AddSeconds(10))
        {
            figures.Add(new("seconds from healing to a step with it", Scenario.SecondsToStep(cluster, outcome, healed, 3), 3));
        }

        return figures;
    }
}
