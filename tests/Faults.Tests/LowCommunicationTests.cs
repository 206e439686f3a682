using System.Text;
using LlmPipeline.Fakes;
using LlmPipeline.Runs.V1;
using State = LlmPipeline.Runs.V1.Run.Types.State;

namespace LlmPipeline.Faults.Tests;

/// <summary>Rounds of local steps, as real processes.</summary>
[Collection(ProcessCollection.Name)]
public sealed class LowCommunicationTests(ReferenceSetup setup)
{
    private const int Steps = 200;

    [Fact]
    public async Task AWorkerThatIsKilledWithinARoundAndOneThatComesLateDoNotShowInTheResult()
    {
        var cluster = setup.Cluster(1);
        var undisturbed = await cluster.FinishAsync(await cluster.CreateAsync(Spec(cluster, 1)));
        Assert.Equal(Steps, undisturbed.Steps.Count);

        setup.Cluster(3);
        var run = await cluster.CreateAsync(Spec(cluster, 3));
        await cluster.WaitForStepAsync(run, 10);
        cluster.Workers[1].Process.Kill();
        await cluster.WaitForStepAsync(run, 60);
        cluster.Workers[1].Process.Start();
        var disturbed = await cluster.FinishAsync(run);
        Assert.Null(disturbed.DifferenceFrom(undisturbed));
        Assert.NotEmpty(disturbed.Events("WORKER_LOST"));
        Assert.True(disturbed.Steps.Sum(s => s.ExchangeBytes) > 0);
    }

    [Fact]
    public async Task WorkersTrainOnFoldersOfTheirOwnThatNobodyElseSees()
    {
        const string Secret = "the owl and the hidden letter";
        using var folder = new TemporaryFolder();
        using var cluster = new TrainingCluster(proxied: false);
        for (var worker = 0; worker < 2; worker++)
        {
            var own = Directory.CreateDirectory(Path.Combine(folder.Path, $"{worker}")).FullName;
            await File.WriteAllTextAsync(Path.Combine(own, "own.txt"), string.Concat(Enumerable.Repeat($"{Secret} {(worker == 0 ? "at dawn" : "by night")}. ", 40)));
            cluster.Add(settings: [("Worker__Dataset", own)]).Process.Start();
        }

        var spec = Spec(cluster, 2);
        spec.Training.Local = new LocalSpec { Steps = 10, Shards = 2, OwnData = true, ClipNorm = 1 };
        var outcome = await cluster.FinishAsync(await cluster.CreateAsync(spec));
        Assert.Equal(Steps, outcome.Steps.Count);
        Assert.True(outcome.Steps[^1].TrainLoss < outcome.Steps[0].TrainLoss - 0.5);

        // Of the others nobody has it: it is not in storage, of which nothing is open once all have ended.
        cluster.Rest();
        cluster.Pipeline.Coordinator.Kill();
        cluster.Pipeline.Preprocessor.Kill();
        var needle = Encoding.UTF8.GetBytes(Secret);
        var files = Directory.EnumerateFiles(cluster.Pipeline.StorageFolder, "*", SearchOption.AllDirectories).ToList();
        Assert.NotEmpty(files);
        var telling = files.Where(file => File.ReadAllBytes(file).AsSpan().IndexOf(needle) >= 0).ToList();
        Assert.True(telling.Count == 0, string.Join('\n', telling));
    }

    [Fact]
    public async Task AWorkerWithoutTextOfItsOwnIsNamed()
    {
        var cluster = setup.Cluster(1);
        var spec = Spec(cluster, 1);
        spec.Training.Local = new LocalSpec { Steps = 10, Shards = 2, OwnData = true };
        var run = await cluster.CreateAsync(spec);
        var failed = await cluster.Pipeline.WaitAsync(run, "failed", r => r.State == State.Failed);
        Assert.Contains("Worker:Dataset", failed.Error.Message);
    }

    private static RunSpec Spec(TrainingCluster cluster, int workers)
    {
        var spec = ReferenceSetup.Spec(cluster, workers, Steps);
        spec.Training.ClearCheckpointInterval();
        spec.Training.ClearValidationInterval();
        spec.Training.Local = new LocalSpec { Steps = 10, Shards = 3, Wire = "int8" };
        return spec;
    }
}
