using System.Diagnostics.Metrics;
using LlmPipeline.Models;
using LlmPipeline.Runs.V1;
using LlmPipeline.Text;
using LlmPipeline.Trainer;
using LlmPipeline.Trainer.Coordinator;
using LlmPipeline.Trainer.Optimizers;
using LlmPipeline.Trainer.Worker;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging.Abstractions;
using TorchSharp;

namespace LlmPipeline.Bench.Measuring;

/// <summary>The trainer's own loop in one process, by itself or as a member of a ring.</summary>
internal static class LoneTraining
{
    /// <summary>Takes a spec's steps.</summary>
    /// <param name="spec">What is to be trained; completed as the coordinator does.</param>
    /// <param name="vocabulary">Number of ids.</param>
    /// <param name="stepDone">Called after each step.</param>
    /// <param name="ids">The text; null: random ids.</param>
    /// <param name="checkpoints">Where checkpoints go, at the spec's interval; null writes none.</param>
    /// <param name="place">This process among the members of a ring; null: it is alone.</param>
    /// <param name="validation">The text to validate on, at the end; null: none.</param>
    /// <param name="device">What to compute on; null: the CPU.</param>
    /// <returns>The numbers of the steps, on rank 0.</returns>
    public static IReadOnlyList<StepMetrics> Run(RunSpec spec, int vocabulary, Action<Replica> stepDone, int[]? ids = null, ICheckpointStore? checkpoints = null,
        RingPlace? place = null, int[]? validation = null, torch.Device? device = null)
    {
        spec.DatasetName = "datasets/random";
        spec.Training.ValidationInterval = spec.Training.Steps + 1;
        if (checkpoints is null)
        {
            spec.Training.CheckpointInterval = spec.Training.Steps + 1;
        }

        spec = RunSpecResolver.Resolve(spec, "train-speed");
        var settings = TrainingSettings.From(spec);
        var model = LanguageModel.Create(TrainingSettings.ModelOf(spec, vocabulary, 0), spec.Seed, device ?? torch.CPU);
        using var replica = new Replica(1, model, Optimizer.Create(spec), new TrainerState { Run = "runs/train-speed", SpecHash = "" });
        using var services = new ServiceCollection().AddMetrics().BuildServiceProvider();
        using var trace = new TrainingTrace(replica.Run);
        var outside = new Outside();
        var loop = new TrainingLoop(
            replica, settings, new TrainingData(new Ids(ids ?? RandomIds(1_000_000, vocabulary)), validation is null ? null : new Ids(validation), settings), place ?? new RingPlace(null, 0, 1), device is null || device.type == DeviceType.CPU,
            (_, _, _) => throw new InvalidOperationException("There is no other worker."), outside, outside, checkpoints ?? outside,
            new TrainerMetrics(services.GetRequiredService<IMeterFactory>()), trace, NullLogger.Instance)
        {
            StepDone = () => stepDone(replica),
        };
        loop.Run();
        return [.. outside.Steps.Values];
    }

    private static int[] RandomIds(int count, int vocabulary)
    {
        var random = new Random(1);
        return [.. Enumerable.Range(0, count).Select(_ => random.Next(vocabulary))];
    }

    private sealed class Ids(int[] ids) : TokenSplit
    {
        public override long TokenCount => ids.Length;

        public override long ByteCount => ids.Length;

        public override long DocumentCount => 1;

        public override void Read(long position, Span<int> to) => ids.AsSpan((int)position, to.Length).CopyTo(to);
    }

    /// <summary>Nobody outside of the loop wants anything.</summary>
    private sealed class Outside : ILoopControl, IProgressSink, ICheckpointStore
    {
        public bool StopRequested => false;

        public bool LeaveRequested => false;

        public bool Exiting => false;

        public bool GiveUp(TimeSpan waited) => false;

        public SortedDictionary<long, StepMetrics> Steps { get; } = [];

        public void Step(StepMetrics metrics, double trainSeconds) => Steps[metrics.Step] = metrics;

        public void Rollback(long step)
        {
        }

        public void Event(string kind, string message)
        {
        }

        public void Share(double fraction)
        {
        }

        public void Checkpoint(string name, double? validationLoss)
        {
        }

        public void Finished(double trainSeconds)
        {
        }

        public string Save(ReplicaSnapshot snapshot, int keep) => $"runs/train-speed/checkpoints/{snapshot.State.Step:D8}";

        public long NewestIntact(string run, long step) => 0;

        public TrainerState Load(Replica replica, long step) => throw new InvalidOperationException("There are no checkpoints.");
    }
}
