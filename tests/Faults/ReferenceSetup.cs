using LlmPipeline.Runs.V1;

namespace LlmPipeline.Faults;

/// <summary>
/// The set-up that reliability is measured on: a model of about a million parameters, 300 steps of at most 50 ms, a checkpoint
/// every 50. Its undisturbed run, on one worker, is computed once; clusters are kept from one scenario to the next.
/// </summary>
public sealed class ReferenceSetup : IDisposable
{
    private readonly Dictionary<int, Task<TrainingOutcome>> _references = [];
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
    public static RunSpec Spec(TrainingCluster cluster, int workers, int steps = 300) => new()
    {
        Dataset = new Datasets.V1.DatasetSpec
        {
            Sources = { cluster.Pipeline.TextFile },
            Tokenizer = new Datasets.V1.TokenizerSpec { Kind = "character" },
            Split = new Datasets.V1.SplitSpec { Method = "tail", ValidationFraction = 0.1 },
        },
        Model = new ModelSpec { Layers = 2, Heads = 4, Width = 200, Context = 32, Dropout = 0.1 },
        Optimizer = new OptimizerSpec { LearningRate = 1e-3, WarmupSteps = 20 },
        Training = new TrainingSpec
        {
            Steps = steps,
            BatchSize = 12,
            MicroBatchSize = 2,
            MinWorkers = workers,
            ValidationInterval = 100,
            ValidationSequences = 12,
            CheckpointInterval = 50,
            KeepCheckpoints = 3,
        },
        Evaluation = new EvaluationSpec(),
        Seed = 5,
    };

    /// <summary>The outcome of the undisturbed run on one worker.</summary>
    public Task<TrainingOutcome> ReferenceAsync(int steps = 300) =>
        _references.TryGetValue(steps, out var reference) ? reference : _references[steps] = ComputeAsync(steps);

    /// <summary>Ends a cluster that a failed scenario left behind.</summary>
    public void Discard()
    {
        _plain?.Dispose();
        _proxied?.Dispose();
        (_plain, _proxied) = (null, null);
    }

    /// <inheritdoc/>
    public void Dispose() => Discard();

    private static async Task<TrainingOutcome> ComputeAsync(int steps)
    {
        using var cluster = new TrainingCluster(proxied: false);
        cluster.Restore(1);
        var outcome = await cluster.FinishAsync(await cluster.CreateAsync(Spec(cluster, 1, steps)));
        return outcome.Steps.Count == steps ? outcome : throw new InvalidOperationException($"The reference has {outcome.Steps.Count} of {steps} steps.");
    }
}
