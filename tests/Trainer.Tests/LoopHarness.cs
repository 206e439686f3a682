using System.Collections.Concurrent;
using System.Diagnostics.Metrics;
using LlmPipeline.Models;
using LlmPipeline.Runs.V1;
using LlmPipeline.Trainer.Worker;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging.Abstractions;

namespace LlmPipeline.Trainer.Tests;

/// <summary>Runs training loops, one a thread, over an in-memory ring.</summary>
internal sealed class LoopHarness : IDisposable
{
    /// <summary>Small enough for gradients to go in several ranges.</summary>
    public const int SmallestRange = 200;

    private readonly ServiceProvider _services = new ServiceCollection().AddMetrics().BuildServiceProvider();

    private readonly bool _labelled;

    public LoopHarness(RunSpec spec, int size, long epoch = 1, IReadOnlyList<Replica>? replicas = null, bool labelled = false)
    {
        _labelled = labelled;
        Spec = spec;
        Rings = size == 1 ? [] : InMemoryRing.Create(size, epoch);
        Replicas = [.. replicas ?? [.. Enumerable.Range(0, size).Select(_ => TinyRun.NewReplica(spec, labelled: labelled))]];
        Controls = [.. Enumerable.Range(0, size).Select(_ => new FakeControl())];
    }

    public RunSpec Spec { get; }

    public InMemoryRing[] Rings { get; }

    public Replica[] Replicas { get; }

    public FakeControl[] Controls { get; }

    public RecordingSink Sink { get; } = new();

    /// <summary>The networks compute on the host's buffers.</summary>
    public bool OnHost { get; init; } = true;

    public ICheckpointStore Checkpoints { get; set; } = new CountingStore();

    /// <summary>Changes what a rank trains on.</summary>
    public Func<int, ITrainingData, ITrainingData> Wrap { get; set; } = (_, data) => data;

    /// <summary>Changes the settings of the spec.</summary>
    public Func<TrainingSettings, TrainingSettings> Change { get; set; } = settings => settings;

    /// <summary>Completes when the second half of the state may reach a rank that lacks it.</summary>
    public Func<int, Task> Transfer { get; set; } = _ => Task.CompletedTask;

    /// <summary>Called by rank 0's thread after each step.</summary>
    public Action<long>? AfterStep { get; set; }

    /// <summary>Called by every rank's thread after each step: rank, step.</summary>
    public Action<int, long>? AfterStepOf { get; set; }

    /// <summary>See <see cref="TrainingLoop.MaxMicroBatchSize"/>.</summary>
    public int MaxMicroBatchSize { get; set; }

    /// <summary>See <see cref="TrainingLoop.MaxDeferredBytes"/>.</summary>
    public long MaxDeferredBytes { get; set; } = 1 << 30;

    /// <summary>Runs all ranks to the end; the exception of a rank takes the place of its outcome.</summary>
    public async Task<object[]> RunAsync()
    {
        var size = Replicas.Length;
        var tasks = Enumerable.Range(0, size).Select(rank => Task.Factory.StartNew(() => RunRank(rank, size), TaskCreationOptions.LongRunning)).ToArray();
        return await Task.WhenAll(tasks).WaitAsync(TinyRun.Timeout);
    }

    public void Dispose()
    {
        foreach (var replica in Replicas)
        {
            replica.Dispose();
        }

        _services.Dispose();
    }

    private object RunRank(int rank, int size)
    {
        var ring = size == 1 ? null : Rings[rank];
        try
        {
            var settings = Change(TrainingSettings.From(Spec));
            var dataset = TinyRun.Dataset();
            using var trace = new TrainingTrace("runs/tiny");
            var loop = new TrainingLoop(
                Replicas[rank], settings, Wrap(rank, Data(dataset, settings)), new RingPlace(ring, rank, size), OnHost,
                (source, step, stop) => CopyAsync(Replicas[source], rank, step, stop),
                Controls[rank], Sink, Checkpoints, new TrainerMetrics(_services.GetRequiredService<IMeterFactory>()), trace, NullLogger.Instance)
            {
                Begin = () => Begin(Replicas[rank]),
                SmallestRange = SmallestRange,
                MaxMicroBatchSize = MaxMicroBatchSize,
                MaxDeferredBytes = MaxDeferredBytes,
                StepDone = () =>
                {
                    AfterStepOf?.Invoke(rank, Replicas[rank].State.Step);
                    if (rank == 0)
                    {
                        AfterStep?.Invoke(Replicas[0].State.Step);
                    }
                },
            };
            return loop.Run();
        }
        catch (Exception exception)
        {
            ring?.Abort();
            return exception;
        }
    }

    private ITrainingData Data(TrainingDataset dataset, TrainingSettings settings) => _labelled
        ? new LabelledData(TinyRun.LabelledDocuments(60, 1), TinyRun.LabelledDocuments(20, 2), TinyRun.Vocabulary, 0, settings)
        : new TrainingData(dataset.Train, dataset.Validation, settings, Masking.Of(Replicas[0].Model.Config));

    private TrainerState Begin(Replica replica)
    {
        using var fresh = TinyRun.NewReplica(Spec, labelled: _labelled);
        replica.Begin(fresh.Model.Parameters.Values);
        return fresh.State;
    }

    private async Task CopyAsync(Replica from, int rank, long step, CancellationToken stop)
    {
        var served = from.Served!;
        Assert.Equal(step, served.Step);
        Assert.True(served.TryHold());
        var bytes = new byte[served.Length];
        served.Read(0, bytes);
        served.Release();
        Replicas[rank].Write(0, bytes.AsSpan(0, bytes.Length / 2));
        await Transfer(rank).WaitAsync(stop);
        Replicas[rank].Write(bytes.Length / 2, bytes.AsSpan(bytes.Length / 2));
    }

    internal sealed class FakeControl : ILoopControl
    {
        private volatile bool _stop;
        private volatile bool _leave;

        public bool StopRequested { get => _stop; set => _stop = value; }

        public bool LeaveRequested { get => _leave; set => _leave = value; }

        public bool Exiting { get; set; }

        public bool ExitingNow => Exiting;

        public bool GiveUp(TimeSpan waited) => false;
    }

    internal sealed class RecordingSink : IProgressSink
    {
        public ConcurrentDictionary<long, StepMetrics> Steps { get; } = new();

        public ConcurrentQueue<(string Name, double? Loss)> Checkpoints { get; } = new();

        public int FinishedCount { get; private set; }

        public double LastShare { get; private set; }

        public void Step(StepMetrics metrics, double trainSeconds) => Steps[metrics.Step] = metrics.Clone();

        public ConcurrentQueue<(string Kind, string Message)> Events { get; } = new();

        public ConcurrentQueue<long> Rollbacks { get; } = new();

        public void Rollback(long step)
        {
            Rollbacks.Enqueue(step);
            foreach (var later in Steps.Keys.Where(s => s > step))
            {
                Steps.TryRemove(later, out _);
            }
        }

        public void Event(string kind, string message) => Events.Enqueue((kind, message));

        public (IReadOnlyList<RunEvent> Events, long? RollbackStep) LastRemembered { get; private set; } = ([], null);

        public void Remembered(IReadOnlyList<RunEvent> events, long? rollbackStep) => LastRemembered = (events, rollbackStep);

        public void Share(double fraction) => LastShare = fraction;

        public void Checkpoint(string name, double? validationLoss) => Checkpoints.Enqueue((name, validationLoss));

        public void Finished(double trainSeconds) => FinishedCount++;

        /// <summary>Everything of the curve that has to be the same, whoever computed it.</summary>
        public (long Step, double Loss, double Norm, double Rate, double Validation)[] Curve =>
            [.. Steps.Values.OrderBy(s => s.Step).Select(Comparable)];

        /// <summary>What of a step has to be the same.</summary>
        public static (long Step, double Loss, double Norm, double Rate, double Validation) Comparable(StepMetrics s) =>
            (s.Step, s.TrainLoss, s.GradientNorm, s.LearningRate, s.HasValidationLoss ? s.ValidationLoss : -1);
    }

    private sealed class CountingStore : ICheckpointStore
    {
        public string Save(ReplicaSnapshot snapshot, int keep) => $"runs/tiny/checkpoints/{snapshot.State.Step:D8}";

        public long NewestIntact(string run, long step) => 0;

        public TrainerState Load(Replica replica, long step) => throw new NotSupportedException();
    }
}
