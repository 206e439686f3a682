using LlmPipeline.Storage;

namespace LlmPipeline.Faults.Scenarios;

/// <summary>Coordinators that die, come back, or are two; and a power cut.</summary>
public static class CoordinatorLoss
{
    /// <summary>6: the coordinator is killed in the middle of a step and started again.</summary>
    public static Scenario Killed { get; } = new(6, "the coordinator killed mid-step and restarted", 10, async context =>
    {
        var (setup, random, _) = context;
        await setup.ReferenceAsync();
        var cluster = setup.Cluster(workers: 3);
        var run = await cluster.CreateAsync(ReferenceSetup.Spec(cluster, 3));

        // Followed by a client that knows nothing of restarts.
        var following = cluster.Pipeline.WaitAsync(run, "trained", TrainingCluster.IsTrained);
        var moment = await Scenario.InstantAsync(cluster, run, random);
        cluster.Pipeline.Coordinator.Kill();
        await Task.Delay(random.Next(0, 2000));
        var restarted = DateTime.UtcNow;
        cluster.Pipeline.Coordinator.Start();
        await following;
        var outcome = await cluster.FinishAsync(run);
        await Scenario.SameAsync(setup, cluster, outcome);
        Scenario.Require(!outcome.Events("WORKER_LOST").Any(), "A worker was taken for lost.", cluster, outcome);
        var back = outcome.Events("COORDINATOR_RESTARTED").Select(e => e.Time.ToDateTime()).FirstOrDefault(t => t > restarted);
        Scenario.Require(back != default, "No event says that the coordinator was restarted.", cluster, outcome);
        return
        [
            new Figure("seconds from the restart to being in charge of the run", (back - restarted).TotalSeconds, 10),
            new Figure("longest pause of the workers in seconds", outcome.LongestPause(moment, moment.AddSeconds(30)), 3),
            new Figure("steps done again (goal: those since the last checkpoint)", outcome.StepsRepeated(moment), 50, IsTime: false),
        ];
    });

    /// <summary>7: everything is killed at once, at any instant, checkpoints being written among them.</summary>
    public static Scenario PowerCut { get; } = new(7, "everything killed (power cut)", 50, async context =>
    {
        var (setup, random, _) = context;
        await setup.ReferenceAsync();
        var cluster = setup.Cluster(workers: 2);
        var run = await cluster.CreateAsync(ReferenceSetup.Spec(cluster, 2));
        if (random.Next(2) == 0)
        {
            await Scenario.InstantAsync(cluster, run, random);
        }
        else
        {
            // While files of a checkpoint are written.
            var (step, end) = (50 * random.Next(1, 4), DateTime.UtcNow + cluster.Pipeline.Limit);
            while (!await ExistsAsync(cluster, $"{run}/checkpoints/{step:D8}/") && DateTime.UtcNow < end)
            {
                await Task.Delay(2);
            }

            await Task.Delay(random.Next(0, 30));
        }

        var moment = DateTime.UtcNow;
        foreach (var worker in cluster.Workers.Where(w => w.Process.IsRunning))
        {
            worker.Process.Signal("KILL");
        }

        cluster.Pipeline.Coordinator.Kill();
        cluster.Pipeline.Preprocessor.Kill();
        foreach (var worker in cluster.Workers)
        {
            worker.Process.Kill();
        }

        cluster.Restore(workers: 2);
        var outcome = await cluster.FinishAsync(run);
        await Scenario.SameAsync(setup, cluster, outcome);
        foreach (var checkpoint in await CheckpointsAsync(cluster, run))
        {
            await cluster.Pipeline.Store.GetVerifiedLocalDirectoryAsync(checkpoint);
        }

        var epoch = outcome.Events("EPOCH_STARTED").Select(e => e.Time.ToDateTime()).First(t => t > moment);
        return
        [
            new Figure("seconds from power to the first epoch", (epoch - moment).TotalSeconds, 10),
            new Figure("steps done again (goal: those since the last checkpoint)", outcome.StepsRepeated(moment), 50, IsTime: false),
        ];
    });

    /// <summary>24: two coordinators are started at once over one storage; then the one in charge dies.</summary>
    public static Scenario TwoAtOnce { get; } = new(24, "two coordinators started at once", 100, async context =>
    {
        const string InCharge = "is in charge.", StandsBy = "this one stands by";
        var (setup, random, _) = context;
        using var pipeline = new PipelineProcesses();
        setup.Rest();
        ServiceProcess[] both = [pipeline.Coordinator, pipeline.AddCoordinator()];
        foreach (var process in both.OrderBy(_ => random.Next()))
        {
            process.Start();
            await Task.Delay(random.Next(0, 40));
        }

        var end = DateTime.UtcNow + pipeline.Limit;
        while (!both.All(p => p.Output.Contains(InCharge, StringComparison.Ordinal) || p.Output.Contains(StandsBy, StringComparison.Ordinal)))
        {
            if (DateTime.UtcNow > end || both.Any(p => !p.IsRunning))
            {
                throw new InvalidOperationException($"The coordinators did not settle who is in charge.\n{pipeline.Describe(null)}");
            }

            await Task.Delay(20);
        }

        var writers = both.Count(p => p.Output.Contains(InCharge, StringComparison.Ordinal));
        var first = both.First(p => p.Output.Contains(InCharge, StringComparison.Ordinal));
        var second = both.Single(p => p != first);
        first.Signal("KILL");
        var killed = DateTime.UtcNow;
        while (!second.Output.Contains(InCharge, StringComparison.Ordinal))
        {
            if (DateTime.UtcNow > end)
            {
                throw new TimeoutException($"Nobody took over.\n{pipeline.Describe(null)}");
            }

            await Task.Delay(20);
        }

        return
        [
            new Figure("coordinators in charge at once", writers, 1, IsTime: false),
            new Figure("seconds until the other takes over", (DateTime.UtcNow - killed).TotalSeconds, 3),
        ];
    });

    private static async Task<bool> ExistsAsync(TrainingCluster cluster, string prefix)
    {
        await foreach (var blob in cluster.Pipeline.Store.ListAsync(prefix))
        {
            return true;
        }

        return false;
    }

    /// <summary>The checkpoints of a run that have a manifest.</summary>
    internal static async Task<IReadOnlyList<string>> CheckpointsAsync(TrainingCluster cluster, string run)
    {
        var found = new List<string>();
        await foreach (var blob in cluster.Pipeline.Store.ListAsync($"{run}/checkpoints/"))
        {
            if (blob.Name.EndsWith("/manifest.json", StringComparison.Ordinal))
            {
                found.Add(blob.Name[..blob.Name.LastIndexOf('/')]);
            }
        }

        return found;
    }
}
