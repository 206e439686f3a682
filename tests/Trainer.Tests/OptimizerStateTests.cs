using LlmPipeline.Fakes;
using LlmPipeline.Models;
using LlmPipeline.Runs.V1;
using LlmPipeline.Storage;
using LlmPipeline.Trainer.Worker;

namespace LlmPipeline.Trainer.Tests;

public sealed class OptimizerStateTests
{
    [Theory]
    [InlineData("sgd", 0)]
    [InlineData("sgd", 1)]
    [InlineData("rmsprop", 3)]
    [InlineData("adam", 2)]
    public async Task EveryOptimizerTrainsAlikeOnManyWorkersAndHandsItsStateOn(string kind, int buffers)
    {
        var spec = TinyRun.Spec(s => s.Optimizer = new OptimizerSpec
        {
            Kind = kind,
            LearningRate = kind == "sgd" ? 0.3 : 1e-2,
            Momentum = kind == "adam" || buffers == 0 ? 0 : 0.5,
            Centered = buffers == 3,
            Alpha = 0.9,
            Beta1 = 0.9,
            Beta2 = 0.99,
            Epsilon = 1e-8,
            L2 = 1e-3,
            ClipNorm = 1,
            ClipValue = 0.05,
            WarmupSteps = 2,
            Schedule = "step",
            StepSize = 4,
            Gamma = 0.5,
        });
        using var one = new LoopHarness(spec, 1);
        Assert.Equal([LoopOutcome.Finished], await one.RunAsync());
        Assert.Equal(buffers, one.Replicas[0].OptimizerState.Count);
        Assert.True(one.Sink.Curve[^1].Loss < one.Sink.Curve[0].Loss);

        using var first = new LoopHarness(spec, 2);
        first.AfterStep = step => first.Controls[1].LeaveRequested = step >= 5;
        Assert.All(await first.RunAsync(), outcome => Assert.Equal(LoopOutcome.Left, outcome));
        var newcomer = TinyRun.NewReplica(spec);
        newcomer.State = newcomer.State with { Step = -1 };
        using var second = new LoopHarness(spec, 2, 2, [newcomer, first.Replicas[1]]);
        Assert.All(await second.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
        Assert.All(second.Replicas, replica => Assert.True(TrainingLoopTests.SameState(one.Replicas[0], replica)));
    }

    [Theory]
    [InlineData("sgd", 0, false, new string[0])]
    [InlineData("sgd", 0.9, false, new[] { "momentum_buffer" })]
    [InlineData("rmsprop", 0, false, new[] { "square_avg" })]
    [InlineData("rmsprop", 0.9, true, new[] { "grad_avg", "momentum_buffer", "square_avg" })]
    [InlineData("adam", 0, false, new[] { "exp_avg", "exp_avg_sq" })]
    [InlineData("adamw", 0, false, new[] { "exp_avg", "exp_avg_sq" })]
    public async Task ACheckpointHoldsWhatTheOptimizerKeeps(string kind, double momentum, bool centered, string[] buffers)
    {
        var spec = TinyRun.Spec(s =>
        {
            s.Optimizer = new OptimizerSpec { Kind = kind, LearningRate = 1e-2, Momentum = momentum, Centered = centered, Alpha = 0.9, Beta1 = 0.9, Beta2 = 0.99, Epsilon = 1e-8 };
            (s.Training.Steps, s.Training.Patience) = (6, 5);
        });
        using var folder = new TemporaryFolder();
        var store = new FolderBlobStore(folder.Path);
        using var harness = new LoopHarness(spec, 1) { Checkpoints = new CheckpointStore(store, "{}") };
        Assert.Equal([LoopOutcome.Finished], await harness.RunAsync());

        const string Name = "runs/tiny/checkpoints/00000006";
        using (var file = SafetensorsFile.Open(Path.Combine(await store.GetVerifiedLocalDirectoryAsync(Name), CheckpointStore.OptimizerFile)))
        {
            var views = harness.Replicas[0].Model.Parameters.Views;
            Assert.Equal(views.SelectMany(v => buffers.Select(b => $"{v.Name}.{b}")).Order(), file.Tensors.Keys.Order());
        }

        using var loaded = TinyRun.NewReplica(spec);
        loaded.State = await CheckpointStore.LoadAsync(store, Name, loaded, CancellationToken.None);
        Assert.True(TrainingLoopTests.SameState(harness.Replicas[0], loaded));
        Assert.Equal(harness.Replicas[0].State.ImprovedLoss, loaded.State.ImprovedLoss);
    }

    [Fact]
    public async Task ACheckpointOfAnotherOptimizerIsRefusedByName()
    {
        using var folder = new TemporaryFolder();
        var store = new FolderBlobStore(folder.Path);
        using var harness = new LoopHarness(TinyRun.Spec(s => s.Training.Steps = 4), 1) { Checkpoints = new CheckpointStore(store, "{}") };
        await harness.RunAsync();
        using var other = TinyRun.NewReplica(TinyRun.Spec(s => s.Optimizer = new OptimizerSpec { Kind = "rmsprop", Alpha = 0.9, Epsilon = 1e-8 }));
        var error = await Assert.ThrowsAsync<InvalidDataException>(() => CheckpointStore.LoadAsync(store, "runs/tiny/checkpoints/00000004", other, CancellationToken.None));
        Assert.Contains("optimizer.safetensors has no '", error.Message);
        Assert.Contains(".square_avg'", error.Message);
    }
}
