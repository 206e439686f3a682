using System.Globalization;
using System.Text;
using System.Text.Json;
using LlmPipeline.Faults;
using LlmPipeline.Faults.Scenarios;

namespace LlmPipeline.Bench.Reliability;

/// <summary>Trainings one after the other, while at random times random faults happen to their processes and connections.</summary>
internal static class ChaosBench
{
    private const double MeanSecondsBetweenFaults = 20;
    private const int Workers = 3;

    /// <summary>No step for so long, and the run hangs.</summary>
    private static readonly TimeSpan Hang = TimeSpan.FromMinutes(3);

    private static readonly TimeSpan RunLimit = TimeSpan.FromHours(1);

    private static string Folder => Path.Combine(Machine.RepositoryRoot, ".llmpipeline", "chaos");

    /// <param name="arguments"><c>--minutes N</c> (30), <c>--seed N</c>, <c>--steps N</c> of a run (1000), <c>--resume</c>: add to what an earlier call has done, up to the minutes.</param>
    public static async Task<int> RunAsync(string[] arguments)
    {
        var seed = Number(arguments, "--seed") ?? Random.Shared.Next(1, 1_000_000);
        var minutes = Number(arguments, "--minutes") ?? 30;
        var steps = Number(arguments, "--steps") ?? 1000;
        var kept = Path.Combine(Directory.CreateDirectory(Folder).FullName, "state.json");
        var state = arguments.Contains("--resume") && File.Exists(kept) ? JsonSerializer.Deserialize<ChaosState>(await File.ReadAllTextAsync(kept))! : new ChaosState { Seed = seed, Steps = steps };
        Say($"seed {state.Seed}, {state.Steps} steps a run, a fault every {MeanSecondsBetweenFaults} s on average, {minutes} minutes ({state.Minutes:0.0} done)");
        Say($"load of the machine {Machine.LoadAverage()}; the undisturbed run on one worker ...");
        var random = new Random(state.Seed + state.Runs.Count);
        using var setup = new ReferenceSetup();
        var reference = await setup.ReferenceAsync(state.Steps);
        Say($"reference: {reference.Steps.Average(s => s.StepSeconds) * 1000:0} ms a step, last loss {reference.Steps[^1].TrainLoss:R}");

        var memory = new MemoryWatch();
        var cluster = NewCluster();
        using var stop = new CancellationTokenSource();
        var sampling = memory.RunAsync(() => cluster.Workers.Select(w => ("worker", w.Process)).Append(("coordinator", cluster.Pipeline.Coordinator)), stop.Token);
        try
        {
            while (state.Minutes < minutes)
            {
                var started = DateTime.UtcNow;
                var done = await OneRunAsync(cluster, reference, state, random);
                state.Minutes += (DateTime.UtcNow - started).TotalMinutes;
                state.Runs.Add(done);
                await File.WriteAllTextAsync(kept, JsonSerializer.Serialize(state));
                Say($"run {state.Runs.Count}: {done.Outcome}; {done.Faults.Count} faults, {done.StepsRepeated} steps done again, {done.Seconds:0} s; {state.Minutes:0.0} of {minutes} minutes");
                await PublishAsync(state, reference, memory, string.Join(' ', arguments));
                if (!done.IsExact)
                {
                    cluster.Dispose();
                    cluster = NewCluster();
                }
            }
        }
        finally
        {
            await stop.CancelAsync();
            await sampling;
            cluster.Dispose();
        }

        return await PublishAsync(state, reference, memory, string.Join(' ', arguments));
    }

    private static TrainingCluster NewCluster()
    {
        var cluster = new TrainingCluster(proxied: true, RunLimit);
        cluster.Restore(Workers);

        // One more, that comes late.
        cluster.Add();
        return cluster;
    }

    private static async Task<ChaosRun> OneRunAsync(TrainingCluster cluster, TrainingOutcome reference, ChaosState state, Random random)
    {
        var started = DateTime.UtcNow;
        var faults = new List<(string Kind, string What, DateTime From, double Seconds)>();
        var watch = new StepWatch();
        using var over = new CancellationTokenSource();
        var spec = ReferenceSetup.Spec(cluster, workers: 1, state.Steps);
        var watching = Task.CompletedTask;
        string outcome;
        try
        {
            var run = await cluster.CreateAsync(spec);
            watching = watch.RunAsync(cluster.Pipeline.Runs, run, over.Token);
            var training = cluster.FinishAsync(run);
            while (!training.IsCompleted)
            {
                var pause = TimeSpan.FromSeconds(-Math.Log(1 - random.NextDouble()) * MeanSecondsBetweenFaults);
                await Task.WhenAny(training, Task.Delay(pause));
                if (training.IsCompleted)
                {
                    break;
                }

                if (DateTime.UtcNow - watch.LastProgress > Hang)
                {
                    throw new TimeoutException($"No step came for {Hang.TotalMinutes} minutes.\n{cluster.Pipeline.Describe((await cluster.Pipeline.Runs.GetRunAsync(new() { Name = run }, deadline: DateTime.UtcNow.AddSeconds(10))).Run)}");
                }

                var fault = Disturbance.All[random.Next(Disturbance.All.Count)];
                var (from, what) = (DateTime.UtcNow, "");
                await fault.ActAsync(cluster, random, text => Say($"  {fault.Kind}: {what = text}"));
                faults.Add((fault.Kind, what, from, (DateTime.UtcNow - from).TotalSeconds));
            }

            var result = await training;
            outcome = result.DifferenceFrom(reference) is { } difference ? $"WRONG: {difference}\n{cluster.Pipeline.Describe(result.Run)}" : "exact";
        }
        catch (Exception exception) when (exception is InvalidOperationException or TimeoutException or Grpc.Core.RpcException)
        {
            outcome = $"FAILED: {exception.Message}";
        }

        if (outcome != "exact")
        {
            var file = Path.Combine(Folder, $"run-{state.Runs.Count + 1}.log");
            await File.WriteAllTextAsync(file, $"{outcome}\n{cluster.Pipeline.Describe(null)}");
            outcome = $"{outcome.Split('\n')[0]} (all of it in {file})";
        }

        await Task.Delay(300);
        await over.CancelAsync();
        await watching;
        var costs = watch.CostsOf([.. faults.Select(f => f.From)]);
        return new ChaosRun
        {
            Outcome = outcome,
            Seconds = (DateTime.UtcNow - started).TotalSeconds,
            MedianStepSeconds = watch.MedianStepSeconds(),
            Faults = [.. faults.Zip(costs, (fault, cost) => new ChaosFault
            {
                Kind = fault.Kind,
                What = fault.What,
                Lasted = fault.Seconds,
                PauseSeconds = cost.PauseSeconds,
                StepsRepeated = cost.StepsRepeated,
            })],
        };
    }

    private static async Task<int> PublishAsync(ChaosState state, TrainingOutcome reference, MemoryWatch memory, string arguments)
    {
        var faults = state.Runs.SelectMany(r => r.Faults).ToList();
        var exact = state.Runs.Count(r => r.IsExact);
        var (flat, text) = (true, new StringBuilder());
        text.Append(CultureInfo.InvariantCulture, $"""
            # Training under random faults

            {await Machine.DescribeAsync($"dotnet run -c Release --project bench -- chaos {arguments}".TrimEnd())}
            - Seed {state.Seed}. {state.Steps} steps a run ({reference.Steps.Average(s => s.StepSeconds) * 1000:0} ms a step undisturbed on one worker, at the same load), {Workers} workers and one that comes and goes, each behind proxies, and a coordinator, as processes; checkpoint every 50 steps; one fault after the other, {MeanSecondsBetweenFaults} s apart on average (exponential).
            - Load average at the end: {Machine.LoadAverage()}.

            {state.Runs.Count} runs in {state.Minutes:0.0} minutes; their steps took {Scenario.Median(state.Runs.Select(r => r.MedianStepSeconds)) * 1000:0} ms (median). {exact} ended with every loss and the hash of weights and optimizer state equal (`==`) to those of an undisturbed run on one worker.

            | Fault | Times | Longest pause, median (s) | Most (s) | Steps done again, most |
            | --- | ---: | ---: | ---: | ---: |

            """);
        foreach (var kind in faults.GroupBy(f => f.Kind).OrderBy(k => k.Key, StringComparer.Ordinal))
        {
            text.AppendLine(CultureInfo.InvariantCulture, $"| {kind.Key} | {kind.Count()} | {Scenario.Median(kind.Select(f => f.PauseSeconds)):0.00} | {kind.Max(f => f.PauseSeconds):0.0} | {kind.Max(f => f.StepsRepeated)} |");
        }

        text.AppendLine("\nA pause lies between two steps in a row and counts for the first fault in it, or else for the last one before; it holds the time that a fault lasts where nothing can go on meanwhile (all killed), and whatever further faults add.\n");
        text.AppendLine("| Memory | First third (MB) | Last third (MB) | Slope within the lives of processes (MB/h) | Lives |\n| --- | ---: | ---: | ---: | ---: |");
        foreach (var role in new[] { "worker", "coordinator" })
        {
            if (memory.Of(role) is var (first, last, slope, lives))
            {
                flat &= last <= first * 1.1;
                text.AppendLine(CultureInfo.InvariantCulture, $"| {role} | {first:0} | {last:0} | {slope:0} | {lives} |");
            }
            else
            {
                text.AppendLine(CultureInfo.InvariantCulture, $"| {role} | none lived for a minute | | | |");
            }
        }

        text.AppendLine("""

            Beside it, what the peers' users and documents report (not measured here; other models and machines):

            | | After a lost worker | Lost |
            | --- | --- | --- |
            | torchft | 948 s from fault to full recovery, Llama-3-8B (meta-pytorch/torchft#329); an all-reduce hangs to its time-out, 60 s, unless the failure is pushed (#196) | the step; the result depends on who takes part |
            | Ray Train | up to 30 minutes before the fault is handled (ray-project/ray#22511); hangs for ever on a node's shutdown (#22349) | steps since the last checkpoint |
            | torchrun | survivors hang up to 30 minutes in the collective (pytorch/pytorch#111646); then all workers are restarted | steps since the last checkpoint |
            """);
        var median = Scenario.Median(faults.Where(f => f.Kind == "a worker killed").Select(f => f.PauseSeconds));
        text.Append(CultureInfo.InvariantCulture, $"""

            `chaos: {exact} of {state.Runs.Count} runs exact through {faults.Count} faults in {state.Minutes:0} minutes, {faults.Sum(f => f.StepsRepeated)} steps done again, {median:0.0} s without a step after a killed worker, memory {(flat ? "flat" : "NOT flat")} (goal all exact, memory flat)`
            """);
        await Machine.PublishAsync("chaos", text.ToString());
        return exact == state.Runs.Count && flat && faults.Count > 0 ? 0 : 1;
    }

    private static int? Number(string[] arguments, string name) =>
        Array.IndexOf(arguments, name) is >= 0 and var i && i + 1 < arguments.Length ? int.Parse(arguments[i + 1], CultureInfo.InvariantCulture) : null;

    private static void Say(string text) => Console.WriteLine($"{DateTime.UtcNow:HH:mm:ss} {text}");

    private sealed record ChaosState
    {
        public int Seed { get; init; }

        public int Steps { get; init; }

        public double Minutes { get; set; }

        public List<ChaosRun> Runs { get; init; } = [];
    }

    private sealed record ChaosRun
    {
        public required string Outcome { get; init; }

        public double Seconds { get; init; }

        public double MedianStepSeconds { get; init; }

        public required List<ChaosFault> Faults { get; init; }

        public bool IsExact => Outcome == "exact";

        public int StepsRepeated => Faults.Sum(f => f.StepsRepeated);
    }

    private sealed record ChaosFault
    {
        public required string Kind { get; init; }

        public required string What { get; init; }

        public double Lasted { get; init; }

        public double PauseSeconds { get; init; }

        public int StepsRepeated { get; init; }
    }
}
