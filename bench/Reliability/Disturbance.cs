using LlmPipeline.Faults;
using LlmPipeline.Faults.Proxy;

namespace LlmPipeline.Bench.Reliability;

/// <summary>A fault of the chaos run: it happens, lasts, and is undone as the world undoes it (somebody restarts, a cable is mended).</summary>
/// <param name="Kind">Its name in the table.</param>
/// <param name="ActAsync">Does it, and undoes it; says what exactly.</param>
internal sealed record Disturbance(string Kind, Func<TrainingCluster, Random, Action<string>, Task> ActAsync)
{
    /// <summary>All kinds.</summary>
    public static IReadOnlyList<Disturbance> All { get; } =
    [
        new("a worker killed", async (cluster, random, say) =>
        {
            var worker = Any(cluster, random);
            say(worker.Process.Name);
            worker.Process.Kill();
            await RestartAsync(random, worker);
        }),
        new("two workers killed", async (cluster, random, say) =>
        {
            var two = cluster.Workers.Where(w => w.Process.IsRunning).OrderBy(_ => random.Next()).Take(2).ToArray();
            say(string.Join(", ", two.Select(w => w.Process.Name)));
            foreach (var worker in two)
            {
                worker.Process.Signal("KILL");
            }

            await Task.WhenAll(two.Select(w => w.Process.WaitForExitAsync(TimeSpan.FromSeconds(30))));
            await RestartAsync(random, two);
        }),
        new("a worker frozen", async (cluster, random, say) =>
        {
            var (worker, time) = (Any(cluster, random), Seconds(random, 1, 12));
            say($"{worker.Process.Name} for {time.TotalSeconds:0.0} s");
            worker.Process.Signal("STOP");
            await Task.Delay(time);
            worker.Process.Signal("CONT");
        }),
        new("SIGTERM to a worker", async (cluster, random, say) =>
        {
            var worker = Any(cluster, random);
            say(worker.Process.Name);
            worker.Process.Signal("TERM");
            if (!await worker.Process.WaitForExitAsync(TimeSpan.FromSeconds(60)))
            {
                throw new InvalidOperationException($"{worker.Process.Name} did not end within 60 s of SIGTERM.\n{worker.Process.Output}");
            }

            await RestartAsync(random, worker);
        }),
        new("the coordinator killed", async (cluster, random, say) =>
        {
            var time = Seconds(random, 0, 5);
            say($"back after {time.TotalSeconds:0.0} s");
            cluster.Pipeline.Coordinator.Kill();
            await Task.Delay(time);
            cluster.Pipeline.Coordinator.Start();
        }),
        new("everything killed", async (cluster, random, say) =>
        {
            var running = cluster.Workers.Where(w => w.Process.IsRunning).ToArray();
            say($"{running.Length} workers and the coordinator");
            foreach (var worker in running)
            {
                worker.Process.Signal("KILL");
            }

            cluster.Pipeline.Coordinator.Kill();
            await Task.WhenAll(running.Select(w => w.Process.WaitForExitAsync(TimeSpan.FromSeconds(30))));
            await Task.Delay(Seconds(random, 0, 2));
            cluster.Pipeline.Coordinator.Start();
            foreach (var worker in running)
            {
                worker.Process.Start();
            }
        }),
        new("a late worker joins", async (cluster, random, say) =>
        {
            // The last one comes and goes; the others are there all the time.
            var late = cluster.Workers[^1];
            if (late.Process.IsRunning)
            {
                say($"{late.Process.Name} leaves");
                late.Process.Signal("TERM");
                await late.Process.WaitForExitAsync(TimeSpan.FromSeconds(60));
            }
            else
            {
                say(late.Process.Name);
                late.Process.Start();
            }
        }),
        new("delay", async (cluster, random, say) =>
        {
            var (worker, delay, time) = (Any(cluster, random), TimeSpan.FromMilliseconds(random.Next(10, 200)), Seconds(random, 2, 10));
            say($"{delay.TotalMilliseconds:0} ms each way, as much jitter, before {worker.Process.Name} for {time.TotalSeconds:0.0} s");
            foreach (var direction in DirectionsOf(worker.Peers!, worker.Upstream!))
            {
                (direction.Delay, direction.Jitter) = (delay, delay);
            }

            await Task.Delay(time);
            worker.Heal();
        }),
        new("connections reset", (cluster, random, say) =>
        {
            var worker = Any(cluster, random);
            say($"{worker.Peers!.Reset()} of its peers and {worker.Upstream!.Reset()} to the coordinator, {worker.Process.Name}");
            return Task.CompletedTask;
        }),
        new("reset in a message", async (cluster, random, say) =>
        {
            var worker = Any(cluster, random);
            var bytes = worker.Peers!.FromTarget.Passed;
            var after = random.Next(1, 20_000_000);
            say($"{worker.Process.Name}, within {after / 1e6:0.0} MB");
            worker.Peers.FromTarget.Budget = after;
            var end = DateTime.UtcNow.AddSeconds(10);
            while (worker.Peers.FromTarget.Passed - bytes < after && DateTime.UtcNow < end)
            {
                await Task.Delay(5);
            }

            worker.Peers.Reset();
            worker.Heal();
        }),
        new("partition from the coordinator", async (cluster, random, say) =>
        {
            var (worker, time) = (Any(cluster, random), Seconds(random, 1, 15));
            say($"{worker.Process.Name} for {time.TotalSeconds:0.0} s");
            worker.Upstream!.IsPartitioned = true;
            await Task.Delay(time);
            worker.Heal();
        }),
        new("partition from a peer", async (cluster, random, say) =>
        {
            var (worker, time) = (Any(cluster, random), Seconds(random, 1, 15));
            say($"{worker.Process.Name} for {time.TotalSeconds:0.0} s");
            worker.Peers!.IsPartitioned = true;
            await Task.Delay(time);
            worker.Heal();
        }),
        new("one-way silence", async (cluster, random, say) =>
        {
            var (worker, time) = (Any(cluster, random), Seconds(random, 1, 12));
            var direction = DirectionsOf(worker.Peers!, worker.Upstream!).ElementAt(random.Next(4));
            var way = direction == worker.Peers!.FromTarget ? "gradients" : direction == worker.Peers.ToTarget ? "pulls" : direction == worker.Upstream!.FromTarget ? "answers to heartbeats" : "heartbeats";
            say($"{way} of {worker.Process.Name} for {time.TotalSeconds:0.0} s");
            direction.IsSilent = true;
            await Task.Delay(time);
            worker.Heal();
        }),
    ];

    private static ClusterWorker Any(TrainingCluster cluster, Random random)
    {
        var running = cluster.Workers.Where(w => w.Process.IsRunning).ToList();
        return running[random.Next(running.Count)];
    }

    private static TimeSpan Seconds(Random random, double from, double to) => TimeSpan.FromSeconds(from + (random.NextDouble() * (to - from)));

    private static IEnumerable<Direction> DirectionsOf(params FaultProxy[] proxies) => proxies.SelectMany(p => new[] { p.ToTarget, p.FromTarget });

    private static async Task RestartAsync(Random random, params ClusterWorker[] workers)
    {
        await Task.Delay(Seconds(random, 0, 5));
        foreach (var worker in workers)
        {
            worker.Process.Start();
        }
    }
}
