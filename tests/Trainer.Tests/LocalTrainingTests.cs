using LlmPipeline.Runs.V1;
using LlmPipeline.Storage;
using LlmPipeline.Trainer.Worker;

namespace LlmPipeline.Trainer.Tests;

/// <summary>Low-communication training.</summary>
public sealed class LocalTrainingTests
{
    /// <summary>18 steps of 4 shards of 2 sequences each, in rounds of 4 steps.</summary>
    internal static RunSpec Spec(Action<RunSpec>? change = null) => TinyRun.Spec(spec =>
    {
        (spec.Training.Steps, spec.Training.BatchSize, spec.Training.MicroBatchSize) = (18, 8, 1);
        (spec.Training.ValidationInterval, spec.Training.CheckpointInterval) = (8, 4);
        spec.Training.Local = new LocalSpec
        {
            Steps = 4,
            Shards = 4,
            OuterLearningRate = 1,
            OuterMomentum = 0.6,
            Wire = "fp32",
            ClipNorm = 0,
            OptimizerState = "average",
            OwnData = false,
        };
        change?.Invoke(spec);
    });

    public static TheoryData<string> Variants => ["fp32", "int16", "int8", "reset", "clipped", "sgd", "rmsprop", "local-sgd", "llama"];

    internal static Action<RunSpec> Variant(string name) => spec =>
    {
        var local = spec.Training.Local;
        switch (name)
        {
            case "int16" or "int8":
                local.Wire = name;
                break;
            case "reset":
                local.OptimizerState = "reset";
                break;
            case "clipped":
                local.ClipNorm = 0.05;
                break;
            case "sgd":
                (spec.Optimizer.Kind, spec.Optimizer.Momentum, spec.Optimizer.LearningRate) = ("sgd", 0.9, 0.05);
                break;
            case "rmsprop":
                (spec.Optimizer.Kind, spec.Optimizer.Alpha, spec.Optimizer.Momentum) = ("rmsprop", 0.9, 0.5);
                break;
            case "local-sgd":
                (spec.Optimizer.Kind, spec.Optimizer.LearningRate, local.OuterMomentum) = ("sgd", 0.3, 0);
                break;
            case "llama":
                TinyRun.OtherModel("llama")(spec);
                break;
        }
    };

    [Theory]
    [MemberData(nameof(Variants))]
    public async Task TheResultDependsOnTheShardsAndNotOnTheWorkers(string variant)
    {
        var spec = Spec(Variant(variant));
        using var one = new LoopHarness(spec, 1);
        Assert.Equal([LoopOutcome.Finished], await one.RunAsync());
        Assert.Equal(Enumerable.Range(1, 18).Select(s => (long)s), one.Sink.Curve.Select(c => c.Step));
        Assert.Equal([8L, 16, 18], one.Sink.Curve.Where(c => c.Validation >= 0).Select(c => c.Step));
        Assert.True(one.Sink.Curve[^1].Loss < one.Sink.Curve[0].Loss);
        for (var size = 2; size <= 4; size++)
        {
            using var many = new LoopHarness(spec, size);
            Assert.All(await many.RunAsync(), outcome => Assert.Equal(LoopOutcome.Finished, outcome));
            Assert.Equal(one.Sink.Curve, many.Sink.Curve);
            Assert.All(many.Replicas, replica => Assert.True(TrainingLoopTests.SameState(one.Replicas[0], replica)));
            Assert.Equal([4L, 8, 12, 16, 18], many.Sink.Checkpoints.Select(c => ResourceName.ParseCheckpoint(c.Name).Step));
        }
    }
}
