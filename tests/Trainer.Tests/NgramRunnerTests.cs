using LlmPipeline.Fakes;
using LlmPipeline.Models;
using LlmPipeline.Runs.V1;
using LlmPipeline.Storage;
using LlmPipeline.Text.NGrams;
using LlmPipeline.Trainer.Worker;
using LlmPipeline.Workers.V1;
using Microsoft.Extensions.DependencyInjection;
using TorchSharp;

namespace LlmPipeline.Trainer.Tests;

public sealed class NgramRunnerTests : IDisposable
{
    private const string Checkpoint = "runs/tiny/checkpoints/00000001";

    private readonly TemporaryFolder _folder = new();
    private readonly ServiceProvider _services = new ServiceCollection().AddMetrics().AddSingleton<TrainerMetrics>().BuildServiceProvider();
    private readonly LoopHarness.RecordingSink _sink = new();
    private readonly LoopHarness.FakeControl _control = new();
    private readonly TrainingTrace _trace = new("runs/tiny");
    private readonly TrainingDataset _dataset = TinyRun.Dataset() with { Fingerprint = "abc" };

    // torch.CPU is named when the model is read again.
    public NgramRunnerTests() => TorchRuntime.Initialize();

    private IBlobStore Store => BlobStore.Open($"folder={_folder.Path}");

    public void Dispose()
    {
        _trace.Dispose();
        _services.Dispose();
        _folder.Dispose();
    }

    [Fact]
    public async Task ARunIsOneStepThatLeavesAModelAndTellsItsLoss()
    {
        Assert.Equal(LoopOutcome.Finished, Run(Plan()));
        var options = new NgramOptions { Order = 3, Smoothing = NgramSmoothing.GoodTuring };
        var expected = NgramModel.Train(_dataset.Train, TinyRun.Vocabulary, 0, options);
        var loss = NgramMeasurement.Of(expected, _dataset.Validation!).Loss;
        var step = Assert.Single(_sink.Steps.Values);
        Assert.Equal((1, Math.Log(TinyRun.Vocabulary), loss, 4000), (step.Step, step.TrainLoss, step.ValidationLoss, step.TokenCount));
        Assert.Equal([(Checkpoint, (double?)loss)], _sink.Checkpoints);
        Assert.Equal((1, 1.0), (_sink.FinishedCount, _sink.LastShare));

        using var model = Assert.IsType<NgramTokenModel>(ModelDirectory.Load(await Store.GetVerifiedLocalDirectoryAsync(Checkpoint), torch.CPU));
        Assert.Equal((options, "abc"), (model.Ngrams.Options, model.TrainedOn));
        Assert.Equal(loss, NgramMeasurement.Of(model.Ngrams, _dataset.Validation!).Loss);
    }

    [Fact]
    public void AWorkerThatFindsTheModelMadeOnlyTellsOfIt()
    {
        Run(Plan());
        var first = (_sink.Steps[1].ValidationLoss, _sink.Steps[1].StepSeconds);
        _sink.Steps.Clear();
        var plan = Plan();
        plan.Checkpoint = Checkpoint;
        Assert.Equal(LoopOutcome.Finished, Run(plan));
        Assert.Equal(first, (_sink.Steps[1].ValidationLoss, _sink.Steps[1].StepSeconds));
        Assert.Equal(2, _sink.Checkpoints.Count(c => c == _sink.Checkpoints.First()));
        Assert.Equal(2, _sink.FinishedCount);
    }

    [Fact]
    public async Task ALossThatIsInfiniteIsLeftOutAndTheModelIsKept()
    {
        var plan = Plan();
        plan.Spec.Model.Ngram.Smoothing = "maximum-likelihood";
        Run(plan);
        Assert.False(_sink.Steps[1].HasValidationLoss);
        Assert.Equal([(Checkpoint, null)], _sink.Checkpoints);
        Assert.NotNull(await Store.TryReadManifestAsync(Checkpoint));
    }

    [Fact]
    public async Task ACancelledRunEndsWithoutAModel()
    {
        _control.StopRequested = true;
        Assert.Equal(LoopOutcome.Finished, Run(Plan()));
        Assert.Equal((1, 0), (_sink.FinishedCount, _sink.Checkpoints.Count));
        Assert.Null(await Store.TryReadManifestAsync(Checkpoint));
    }

    [Fact]
    public void AnEpochThatIsOverIsLeft()
    {
        _control.LeaveRequested = true;
        Assert.Equal(LoopOutcome.Left, Run(Plan()));
        Assert.Equal((0, 0), (_sink.FinishedCount, _sink.Checkpoints.Count));
    }

    [Fact]
    public void AProcessThatExitsStops() =>
        Assert.ThrowsAny<OperationCanceledException>(() => Run(Plan(), new CancellationToken(canceled: true)));

    private LoopOutcome Run(EpochPlan plan, CancellationToken? cancellationToken = null) =>
        new NgramRunner(Store, _sink, _services.GetRequiredService<TrainerMetrics>(), _trace)
            .Run(plan, _dataset, _control, cancellationToken ?? TestContext.Current.CancellationToken);

    private static EpochPlan Plan() => new()
    {
        Epoch = 1,
        Run = "runs/tiny",
        Attempt = 1,
        Spec = new RunSpec { Model = new ModelSpec { Architecture = "ngram", Ngram = new NgramSpec { Order = 3, Smoothing = "good-turing", K = 1 } } },
        Dataset = "datasets/tiny",
        Members = { new EpochMember { WorkerId = "worker-1" } },
    };
}
