namespace LlmPipeline.Faults.Scenarios;

/// <summary>Workers that die, freeze or come late.</summary>
public static class WorkerLoss
{
    /// <summary>1: one of three is killed in the middle of a step.</summary>
    public static Scenario OneKilled { get; } = new(1, "one of three workers killed mid-step", 20, context => KillAsync(context, killed: 1, limit: 3));

    /// <summary>2: two of three are killed at once.</summary>
    public static Scenario TwoKilled { get; } = new(2, "two of three workers killed at once", 20, context => KillAsync(context, killed: 2, limit: 5));

    private static async Task<IReadOnlyList<Figure>> KillAsync(ScenarioContext context, int killed, double limit)
    {
        var (setup, random, _) = context;
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

    /// <summary>3: a worker is frozen with its connections open, is lost, and comes back when it thaws.</summary>
    public static Scenario Frozen { get; } = new(3, "a worker frozen (SIGSTOP), and thawed", 5, async context =>
    {
        var (setup, random, _) = context;
        var steps = await setup.StepsForAsync(seconds: 15);
        var cluster = setup.Cluster(workers: 3);
        var run = await cluster.CreateAsync(ReferenceSetup.Spec(cluster, 3, steps));
        var moment = await Scenario.InstantAsync(cluster, run, random);
        var victim = cluster.Workers[random.Next(3)].Process;
        victim.Signal("STOP");
        await cluster.Pipeline.WaitAsync(run, "an epoch of two", r => r.Workers.Count == 2 || TrainingCluster.IsTrained(r));
        var thawed = DateTime.UtcNow;
        victim.Signal("CONT");
        var outcome = await cluster.FinishAsync(run);
        await Scenario.SameAsync(setup, cluster, outcome);
        var lost = outcome.Events("WORKER_LOST").FirstOrDefault(e => e.Message.Contains(victim.Name, StringComparison.Ordinal));
        Scenario.Require(lost is not null, $"No event says that {victim.Name} is lost.", cluster, outcome);
        return
        [
            new Figure("seconds until the frozen worker is declared dead", (lost!.Time.ToDateTime() - moment).TotalSeconds, 5),
            new Figure("seconds from thawing to a step with it", Scenario.SecondsToStep(cluster, outcome, thawed, 3), 3),
            new Figure("steps lost", outcome.StepsRepeated(moment), 0, IsTime: false),
        ];
    });

    /// <summary>4: a third worker joins two at about step 100.</summary>
    public static Scenario Late { get; } = new(4, "a worker joins late", 5, async context =>
    {
        var (setup, random, _) = context;
        var steps = await setup.StepsForAsync(seconds: 12);
        var cluster = setup.Cluster(workers: 2);
        var run = await cluster.CreateAsync(ReferenceSetup.Spec(cluster, 2, steps));
        await cluster.WaitForStepAsync(run, 60 + random.Next(40));
        cluster.Restore(workers: 3);
        var outcome = await cluster.FinishAsync(run);
        await Scenario.SameAsync(setup, cluster, outcome);
        var joined = outcome.Events("WORKER_JOINED").LastOrDefault(e => e.Message.Contains(cluster.Workers[2].Process.Name, StringComparison.Ordinal));
        Scenario.Require(joined is not null, "No event says that the worker joined.", cluster, outcome);
        var began = outcome.Events("EPOCH_STARTED").Last(e => e.Message.Contains("3 workers", StringComparison.Ordinal)).Time.ToDateTime();
        var first = outcome.Steps.FirstOrDefault(s => s.WorkerCount == 3);
        Scenario.Require(first is not null, "No step of three workers came.", cluster, outcome);
        return
        [
            new Figure("steps begun after its epoch was decided, up to the first with it", outcome.Steps.Count(s => s.Step <= first!.Step && TrainingOutcome.Began(s) > began), 2),
            new Figure("longest pause of the others in seconds", outcome.LongestPause(began.AddSeconds(-2), began.AddSeconds(5)), 1),
            new Figure("steps lost", outcome.StepsRepeated(began), 0, IsTime: false),
        ];
    });

    /// <summary>5: a worker is killed and started again every 5 s.</summary>
    public static Scenario Flapping { get; } = new(5, "a worker killed and started again every 5 s", 1, async context =>
    {
        var (setup, _, isLong) = context;
        var calm = await setup.ReferenceAsync();
        var stepSeconds = calm.Steps.Average(s => s.StepSeconds);
        var seconds = isLong ? 120 : 15;

        // As many steps as the time takes, a half more for the end; the reference is of the same length.
        var steps = Math.Clamp((int)(seconds / stepSeconds), 300, 6000);
        var reference = await setup.ReferenceAsync(steps);
        var cluster = setup.Cluster(workers: 3);
        var run = await cluster.CreateAsync(ReferenceSetup.Spec(cluster, 3, steps));
        await cluster.WaitForStepAsync(run, 20);
        var processes = new[] { cluster.Workers[0].Process, cluster.Workers[1].Process, cluster.Pipeline.Coordinator };
        var memory = new List<(TimeSpan Time, IReadOnlyList<long> Bytes)>();
        var started = DateTime.UtcNow;
        var flapping = cluster.Workers[2].Process;
        var isUp = true;
        while (DateTime.UtcNow - started < TimeSpan.FromSeconds(seconds))
        {
            if (isUp)
            {
                flapping.Kill();
            }
            else
            {
                flapping.Start();
            }

            isUp = !isUp;
            for (var i = 0; i < 10; i++)
            {
                memory.Add((DateTime.UtcNow - started, [.. processes.Select(p => p.ResidentBytes)]));
                await Task.Delay(TimeSpan.FromSeconds(0.25));
            }
        }

        var ended = DateTime.UtcNow;
        if (!isUp)
        {
            flapping.Start();
        }

        var outcome = await cluster.FinishAsync(run);
        await Scenario.SameAsync(setup, cluster, outcome);

        // Against the two that are there all the time, as one worker's cores are free for them while it is away.
        var done = outcome.Steps.Count(s => s.Time.ToDateTime() > started && s.Time.ToDateTime() <= ended);
        var last = Math.Min((ended - started).TotalSeconds, (outcome.Steps[^1].Time.ToDateTime() - started).TotalSeconds);
        return
        [
            new Figure("throughput against the undisturbed run", done / last * reference.Steps.Average(s => s.StepSeconds), 0.5, AtLeast: true),
            new Figure("memory in the last quarter of the time against that in the second, medians, most of three processes", Enumerable.Range(0, processes.Length).Max(Growth), 1.1, IsTime: false),
        ];

        // In the first quarter processes still compile, and have served no copy yet; one number alone may have such a copy in it or not.
        double Growth(int process) => Median(process, 0.75, 1) / Median(process, 0.25, 0.5);

        double Median(int process, double from, double to) =>
            Scenario.Median(memory.Where(m => m.Time.TotalSeconds >= from * seconds && m.Time.TotalSeconds < to * seconds).Select(m => (double)m.Bytes[process]));
    });

    /// <summary>14: nobody is left, fewer than the minimum come back, then enough.</summary>
    public static Scenario NobodyLeft { get; } = new(14, "all workers lost, the minimum not met", 5, async context =>
    {
        var (setup, random, _) = context;
        await setup.ReferenceAsync();
        var cluster = setup.Cluster(workers: 2);
        var spec = ReferenceSetup.Spec(cluster, 2);
        spec.Training.MinWorkers = 2;
        var run = await cluster.CreateAsync(spec);
        await Scenario.InstantAsync(cluster, run, random);
        foreach (var worker in cluster.Workers.Take(2))
        {
            worker.Process.Signal("KILL");
        }

        foreach (var worker in cluster.Workers.Take(2))
        {
            await worker.Process.WaitForExitAsync(TimeSpan.FromSeconds(10));
        }

        // One of two is not enough, as nobody holds state: it waits, and so does the coordinator.
        cluster.Workers[0].Process.Start();
        await cluster.Pipeline.WaitAsync(run, "waiting for workers", r => r.Events.Any(e => e.Kind == "WORKERS_AWAITED"));
        ServiceProcess[] waiting = [cluster.Workers[0].Process, cluster.Pipeline.Coordinator];
        var busy = 1.0;
        for (var i = 0; i < 8 && busy > 0.05; i++)
        {
            // A process that has just begun still compiles.
            var cpu = waiting.Select(p => p.CpuTime).ToList();
            var clock = System.Diagnostics.Stopwatch.StartNew();
            await Task.Delay(TimeSpan.FromSeconds(3));
            busy = waiting.Zip(cpu, (p, before) => (p.CpuTime - before) / clock.Elapsed).Max();
        }

        cluster.Workers[1].Process.Start();
        var outcome = await cluster.FinishAsync(run);
        await Scenario.SameAsync(setup, cluster, outcome);
        var joined = outcome.Events("WORKER_JOINED").Last(e => e.Message.Contains(cluster.Workers[1].Process.Name, StringComparison.Ordinal)).Time.ToDateTime();
        return
        [
            new Figure("share of a core that waiting takes", busy, 0.05, IsTime: false),
            new Figure("seconds from the worker's return to the next step", Scenario.SecondsToStep(cluster, outcome, joined, 2), 3),
        ];
    });

    /// <summary>16: the system kills a worker that has no memory left.</summary>
    public static Scenario OutOfMemory { get; } = new(16, "a worker killed for memory (cgroup limit)", 5, async context =>
    {
        var (setup, random, _) = context;
        var steps = await setup.StepsForAsync(seconds: 15);
        using var group = Machine.Cgroup.TryCreate("memory", out var reason) ?? throw new ScenarioSkippedException($"Memory cannot be limited: {reason}.");
        using var cluster = new TrainingCluster(proxied: false);
        cluster.Add();
        cluster.Add();
        var victim = cluster.Add(group.Launcher).Process;
        cluster.Restore(3);
        var run = await cluster.CreateAsync(ReferenceSetup.Spec(cluster, 3, steps));
        await Scenario.InstantAsync(cluster, run, random);

        // A heartbeat later the coordinator knows of the limit. Another process of the group takes the memory; of the two, the system prefers to end the worker.
        group.LimitMemory(group.MemoryBytes + (64L << 20));
        await Task.Delay(TimeSpan.FromSeconds(2.5));
        string[] command = [.. group.Launcher, "sh", "-c", "echo -900 > /proc/self/oom_score_adj; exec tail /dev/zero"];
        using var hog = System.Diagnostics.Process.Start(command[0], command[1..]);
        var died = await victim.WaitForExitAsync(TimeSpan.FromSeconds(60));
        var moment = DateTime.UtcNow;
        hog.Kill();
        await hog.WaitForExitAsync();
        var outcome = await cluster.FinishAsync(run);
        Scenario.Require(died && victim.ExitCode == 137, $"The worker was not killed (exit code {victim.ExitCode}).", cluster, outcome);
        await Scenario.SameAsync(setup, cluster, outcome);
        var lost = outcome.Events("WORKER_LOST").FirstOrDefault(e => e.Message.Contains(victim.Name, StringComparison.Ordinal));
        Scenario.Require(lost is not null, $"No event says that {victim.Name} is lost.", cluster, outcome);
        Scenario.Require(lost!.Message.Contains("memory", StringComparison.Ordinal), $"The event does not say that memory was short: {lost.Message}", cluster, outcome);
        return
        [
            new Figure("seconds from the kill to the next step", Scenario.SecondsToStep(cluster, outcome, moment.AddMilliseconds(-100), 2), 3),
            new Figure("steps lost", outcome.StepsRepeated(moment), 0, IsTime: false),
        ];
    });
}
