using System.Buffers.Binary;
using LlmPipeline.Faults.Machine;
using LlmPipeline.Runs.V1;

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

    /// <summary>15: a worker that comes late gets a copy of the state in which a number is none, so its gradients are none either.</summary>
    public static Scenario NotFinite { get; } = new(15, "a worker's gradients are not finite", 5, async context =>
    {
        var (setup, random, _) = context;
        var reference = await setup.ReferenceAsync();
        var cluster = setup.Cluster(workers: 2, proxied: true);
        var spec = ReferenceSetup.Spec(cluster, 2);
        spec.Training.MaxAnomalies = 100;
        var run = await cluster.CreateAsync(spec);
        await cluster.WaitForStepAsync(run, random.Next(5, 40));
        var sources = cluster.Workers.Take(2).Select(w => w.Peers!.FromTarget).ToList();
        sources.ForEach(source => source.Tamper = Spoil);
        setup.Cluster(workers: 3, proxied: true);
        var late = cluster.Workers[2].Process;

        // Where a comparison of the replicas finds it before a step does, the next copy is spoiled as well.
        await cluster.Pipeline.WaitAsync(run, "a step that changes nothing", r => r.Events.Any(e => e.Kind == "STEP_SKIPPED") || TrainingCluster.IsTrained(r));
        sources.ForEach(source => source.Tamper = null);
        var outcome = await cluster.FinishAsync(run);
        var skipped = outcome.Steps.Where(s => s.Anomaly.Length > 0).ToList();
        Scenario.Require(skipped.Count > 0, "No step changed nothing.", cluster, outcome);
        var before = (int)skipped[0].Step - 1;
        Scenario.Require(outcome.Curve.Take(before).SequenceEqual(reference.Curve.Take(before)), "Steps before the fault are not those of the undisturbed run.", cluster, outcome);
        Scenario.Require(outcome.Steps.All(s => s.Anomaly is "" ? double.IsFinite(s.TrainLoss) : s.Anomaly is "LOSS_NOT_FINITE"), "The numbers of a step that counted are not finite.", cluster, outcome);
        Scenario.Require(outcome.Events("STEP_SKIPPED").All(e => e.Message.Contains($", of {late.Name}-", StringComparison.Ordinal)), "An event names another worker.", cluster, outcome);
        Scenario.Require(outcome.Events("REPLICA_HEALED").Any(), "The worker was not given another copy.", cluster, outcome);
        Scenario.Require(outcome.Steps is [.., { Anomaly: "", WorkerCount: 3 }] && outcome.Steps.Count == reference.Steps.Count, "The run does not end with sound steps of all workers.", cluster, outcome);
        Scenario.Require(!outcome.Events("WORKER_LOST").Any(), "A worker was lost, where none was harmed but in its numbers.", cluster, outcome);
        return [new Figure("steps in a row that changed nothing", MostInARow(skipped), 16, IsTime: false)];

        static int MostInARow(List<StepMetrics> steps) => steps.Index().GroupBy(s => s.Item.Step - s.Index).Max(g => g.Count());
    }, "b");

    /// <summary>Makes one of the gains of a layer norm no number: nothing else that goes from worker to worker has so many numbers near 1 in a row.</summary>
    private static void Spoil(Span<byte> bytes)
    {
        const int Row = 64;
        for (var phase = 0; phase < sizeof(float); phase++)
        {
            var near = 0;
            for (var at = phase; at + sizeof(float) <= bytes.Length; at += sizeof(float))
            {
                near = BinaryPrimitives.ReadSingleLittleEndian(bytes[at..]) is > 0.7f and < 1.3f ? near + 1 : 0;
                if (near == Row)
                {
                    BinaryPrimitives.WriteSingleLittleEndian(bytes[at..], float.NaN);
                    return;
                }
            }
        }
    }

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
