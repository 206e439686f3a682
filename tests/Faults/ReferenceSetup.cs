using LlmPipeline.Runs.V1;

namespace LlmPipeline.Faults;

/// <summary>
/// The set-up that reliability is measured on: a model of about a million parameters, 300 steps of at most 50 ms, a checkpoint
/// every 50. Its undisturbed run, on one worker, is computed once; clusters are kept from one scenario to the next.
/// </summary>
public sealed class ReferenceSetup : IDisposable
{
    private const int BatchSize = 12;
    private const int MicroBatchSize = 2;

    private readonly Dictionary<(int Steps, int BatchSize, int MicroBatchSize), Task<TrainingOutcome>> _references = [];
    private TrainingCluster? _plain;
    private TrainingCluster? _proxied;

    /// <summary>A cluster with a coordinator and so many workers, undisturbed.</summary>
    public TrainingCluster Cluster(int workers, bool proxied = false)
    {
        var cluster = proxied ? _proxied ??= new TrainingCluster(proxied: true) : _plain ??= new TrainingCluster(proxied: false);
        (proxied ? _plain : _proxied)?.Rest();
        cluster.Restore(workers);
        return cluster;
    }

    /// <summary>The run.</summary>
    /// <param name="cluster">Where its text is.</param>
    /// <param name="workers">Workers that it waits for.</param>
    /// <param name="steps">Number of steps.</param>
    /// <param name="batchSize">Sequences of a step.</param>
    /// <param name="microBatchSize">Sequences of a micro-batch.</param>
    public static RunSpec Spec(TrainingCluster cluster, int workers, int steps = 300, int batchSize = BatchSize, int microBatchSize = MicroBatchSize) => new()
    {
        Dataset = new Datasets.V1.DatasetSpec
        {
            Sources = { cluster.Pipeline.TextFile },
            Tokenizer = new Datasets.V1.TokenizerSpec { Kind = "character" },
            Split = new Datasets.V1.SplitSpec { Method = "tail", ValidationFraction = 0.1 },
        },
        Model = new ModelSpec { Layers = 2, Heads = 4, Width = 200, Context = 32, Dropout = 0.1 },
        Optimizer = new OptimizerSpec { LearningRate = 1e-3, WarmupSteps = Math.Min(20, steps / 2) },
        Training = new TrainingSpec
        {
            Steps = steps,
            BatchSize = batchSize,
            MicroBatchSize = microBatchSize,
            StartWorkers = workers,
            ValidationInterval = 100,
            ValidationSequences = 12,
            CheckpointInterval = 50,
            KeepCheckpoints = 3,
        },
        Evaluation = new EvaluationSpec(),
        Seed = 5,
    };

    /// <summary>The outcome of the undisturbed run on one worker.</summary>
    public Task<TrainingOutcome> ReferenceAsync(int steps = 300, int batchSize = BatchSize, int microBatchSize = MicroBatchSize)
    {
        var key = (steps, batchSize, microBatchSize);
        return _references.TryGetValue(key, out var reference) ? reference : _references[key] = ComputeAsync(steps, batchSize, microBatchSize);
    }

    /// <summary>How many steps a run needs, at least, to be under way for a time on this machine; 300 or more.</summary>
    public async Task<int> StepsForAsync(double seconds)
    {
        // Three workers on two cores are faster than the one of the reference.
        var stepSeconds = (await ReferenceAsync()).Steps.Average(s => s.StepSeconds) / 1.6;
        return Math.Max(300, (int)Math.Ceiling(seconds / stepSeconds / 100) * 100);
    }

    /// <summary>Ends all workers, so that a scenario's own processes have the machine.</summary>
    public void Rest()
    {
        _plain?.Rest();
        _proxied?.Rest();
    }

    /// <summary>Ends a cluster that a failed scenario left behind.</summary>
    public void Discard()
    {
        _plain?.Dispose();
        _proxied?.Dispose();
        (_plain, _proxied) = (null, null);
    }

    /// <inheritdoc/>
    public void Dispose() => Discard();

    private async Task<TrainingOutcome> ComputeAsync(int steps, int batchSize, int microBatchSize)
    {
        Rest();
        using var cluster = new TrainingCluster(proxied: false);
        cluster.Restore(1);
        var outcome = await cluster.FinishAsync(await cluster.CreateAsync(Spec(cluster, 1, steps, batchSize, microBatchSize)));
        return outcome.Steps.Count == steps ? outcome : throw new InvalidOperationException($"The reference has {outcome.Steps.Count} of {steps} steps.");
    }
}
