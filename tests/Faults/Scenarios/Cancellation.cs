using Grpc.Net.Client;
using LlmPipeline.Datasets.V1;
using LlmPipeline.Runs.V1;
using LlmPipeline.Storage;
using DatasetState = LlmPipeline.Datasets.V1.Dataset.Types.State;
using State = LlmPipeline.Runs.V1.Run.Types.State;

namespace LlmPipeline.Faults.Scenarios;

/// <summary>Runs that are cancelled.</summary>
public static class Cancellation
{
    /// <summary>17: cancelled in each of its phases.</summary>
    public static Scenario InEachPhase { get; } = new(17, "cancelled while queued, preparing, training a tokenizer, training, writing a checkpoint, evaluating", 3, async context =>
    {
        var cluster = context.Setup.Cluster(workers: 2);
        cluster.Pipeline.Evaluator.Start();
        try
        {
            var figures = new List<Figure>();

            // Long enough to be met while it is prepared: every text makes another tokenizer.
            var text = cluster.Pipeline.WriteText($"long-{context.Random.Next()}.txt", string.Concat(Enumerable.Range(0, 600_000).Select(i => $"word{context.Random.Next(50_000)} ")));
            var preparing = ReferenceSetup.Spec(cluster, 2);
            preparing.Dataset.Sources.Clear();
            preparing.Dataset.Sources.Add(text);
            preparing.Dataset.Tokenizer = new Datasets.V1.TokenizerSpec { Kind = "bpe", VocabularySize = 4000 };
            var first = await cluster.CreateAsync(preparing);
            var queued = await cluster.CreateAsync(ReferenceSetup.Spec(cluster, 2));
            figures.AddRange(await CancelAsync(cluster, queued, "queued"));
            await cluster.Pipeline.WaitAsync(first, "preparing", r => r.State is not State.Queued);
            figures.AddRange(await CancelAsync(cluster, first, "preparing"));

            // Another dataset, with more merges to find than there is time for.
            preparing.Dataset.Tokenizer.VocabularySize = 40_000;
            var merging = await cluster.CreateAsync(preparing);
            var dataset = await WaitForDatasetAsync(cluster, DatasetState.TokenizerTraining);
            figures.AddRange(await CancelAsync(cluster, merging, "training a tokenizer"));
            figures.Add(new Figure("share of a core that the Preprocessor takes afterwards", await BusyAsync([cluster.Pipeline.Preprocessor]), 0.1, IsTime: false));
            if (await StateAsync(cluster, dataset) is var state and not DatasetState.Cancelled)
            {
                throw new InvalidOperationException($"{dataset} is {state}.\n{cluster.Pipeline.Describe(null)}");
            }

            var training = await cluster.CreateAsync(ReferenceSetup.Spec(cluster, 2));
            await cluster.WaitForStepAsync(training, context.Random.Next(5, 40));
            figures.AddRange(await CancelAsync(cluster, training, "training"));
            figures.Add(new Figure("share of a core that a worker takes afterwards", await BusyAsync([.. cluster.Workers.Take(2).Select(w => w.Process)]), 0.1, IsTime: false));

            var writing = await cluster.CreateAsync(ReferenceSetup.Spec(cluster, 2));
            await WaitForFileAsync(cluster, $"{writing}/checkpoints/00000050/");
            figures.AddRange(await CancelAsync(cluster, writing, "writing a checkpoint"));

            var evaluating = await cluster.CreateAsync(ReferenceSetup.Spec(cluster, 2, steps: 20));
            await cluster.Pipeline.WaitAsync(evaluating, "evaluating", r => r.State is State.Evaluating or State.Publishing or State.Succeeded);
            figures.AddRange(await CancelAsync(cluster, evaluating, "evaluating"));

            // What is there is whole, and the next run is not held up by what was left.
            foreach (var run in new[] { training, writing, evaluating })
            {
                foreach (var checkpoint in await CoordinatorLoss.CheckpointsAsync(cluster, run))
                {
                    await cluster.Pipeline.Store.GetVerifiedLocalDirectoryAsync(checkpoint);
                }
            }

            await cluster.FinishAsync(await cluster.CreateAsync(ReferenceSetup.Spec(cluster, 2, steps: 20)));
            return figures;
        }
        finally
        {
            cluster.Pipeline.Evaluator.Kill();
        }
    });

    // A young process still compiles methods for a moment; one that computes or spins never comes to rest.
    private static async Task<double> BusyAsync(IReadOnlyList<ServiceProcess> processes)
    {
        var least = double.PositiveInfinity;
        for (var second = 0; second < 6 && least > 0.05; second++)
        {
            var before = processes.Select(p => p.CpuTime).ToList();
            await Task.Delay(1000);
            least = Math.Min(least, processes.Zip(before, (p, then) => (p.CpuTime - then).TotalSeconds).Max());
        }

        return least;
    }

    private static async Task<IEnumerable<Figure>> CancelAsync(TrainingCluster cluster, string run, string phase)
    {
        var clock = System.Diagnostics.Stopwatch.StartNew();
        await cluster.Pipeline.Runs.CancelRunAsync(new CancelRunRequest { Name = run }, deadline: DateTime.UtcNow + cluster.Pipeline.Limit);
        var acknowledged = clock.Elapsed.TotalSeconds;
        var record = await cluster.Pipeline.WaitAsync(run, "over", r => r.State is State.Cancelled or State.Failed or State.Succeeded);
        if (record.State != State.Cancelled && phase != "evaluating")
        {
            throw new InvalidOperationException($"{run}, cancelled while {phase}, is {record.State}.\n{cluster.Pipeline.Describe(record)}");
        }

        return
        [
            new Figure($"seconds to acknowledge, {phase}", acknowledged, 1),
            new Figure($"seconds to the end, {phase}", clock.Elapsed.TotalSeconds, 3),
        ];
    }

    /// <summary>Waits until the Preprocessor has a dataset in a state; returns its name.</summary>
    private static async Task<string> WaitForDatasetAsync(TrainingCluster cluster, DatasetState state)
    {
        using var channel = GrpcChannel.ForAddress(cluster.Pipeline.Preprocessor.Address);
        var datasets = new DatasetService.DatasetServiceClient(channel);
        var end = DateTime.UtcNow + cluster.Pipeline.Limit;
        while (DateTime.UtcNow < end)
        {
            var found = (await datasets.ListDatasetsAsync(new ListDatasetsRequest { PageSize = 1000 }, deadline: end)).Datasets;
            if (found.FirstOrDefault(d => d.State == state) is { } dataset)
            {
                return dataset.Name;
            }

            await Task.Delay(10);
        }

        throw new TimeoutException($"No dataset came to {state}.\n{cluster.Pipeline.Describe(null)}");
    }

    private static async Task<DatasetState> StateAsync(TrainingCluster cluster, string dataset)
    {
        using var channel = GrpcChannel.ForAddress(cluster.Pipeline.Preprocessor.Address);
        return (await new DatasetService.DatasetServiceClient(channel).GetDatasetAsync(new GetDatasetRequest { Name = dataset }, deadline: DateTime.UtcNow + cluster.Pipeline.Limit)).Dataset.State;
    }

    private static async Task WaitForFileAsync(TrainingCluster cluster, string prefix)
    {
        var end = DateTime.UtcNow + cluster.Pipeline.Limit;
        while (DateTime.UtcNow < end)
        {
            await foreach (var blob in cluster.Pipeline.Store.ListAsync(prefix))
            {
                return;
            }

            await Task.Delay(2);
        }

        throw new TimeoutException($"No file of {prefix} came.\n{cluster.Pipeline.Describe(null)}");
    }
}
