using Grpc.Core;
using LlmPipeline.Datasets.V1;
using LlmPipeline.Runs.V1;
using LlmPipeline.Trainer.Coordinator;
using LlmPipeline.Trainer.Worker;

namespace LlmPipeline.Trainer.Tests.Coordinator;

public sealed class LocalSpecResolverTests
{
    [Fact]
    public void DefaultsFitTogether()
    {
        var spec = Resolve(s => s.Training.Local = new LocalSpec());
        Assert.Equal(
            new LocalSpec { Steps = 50, Shards = 2, OuterLearningRate = 1, OuterMomentum = 0.7, Wire = "fp32", ClipNorm = 0, OptimizerState = "average", OwnData = false },
            spec.Training.Local);
        Assert.Equal((16, 250L, 250L), (spec.Training.MicroBatchSize, spec.Training.ValidationInterval, spec.Training.CheckpointInterval));
        Assert.Equal(spec, RunSpecResolver.Resolve(spec, "another-run"));
        Assert.Equal(50, TrainingSettings.From(spec).Local!.Steps);
    }

    [Fact]
    public void IntervalsBecomeMultiplesOfARound()
    {
        var spec = Resolve(s => s.Training.Local = new LocalSpec { Steps = 60, Shards = 4 });
        Assert.Equal((300L, 300L, 8), (spec.Training.ValidationInterval, spec.Training.CheckpointInterval, spec.Training.MicroBatchSize));
        Assert.Equal("reset", Resolve(s => s.Training.Local = new LocalSpec { OwnData = true }).Training.Local.OptimizerState);
    }

    [Fact]
    public void RoundsOfOneStepAreTheSynchronousRun()
    {
        Assert.Null(TrainingSettings.From(Resolve(s => s.Training.Local = new LocalSpec { Steps = 1 })).Local);
        Assert.NotNull(TrainingSettings.From(Resolve(s => s.Training.Local = new LocalSpec { Steps = 1, OwnData = true })).Local);
    }

    [Theory]
    [InlineData("steps", 0, "training.local.steps is 0, but must be from 1 to 500")]
    [InlineData("steps", 501, "training.local.steps is 501")]
    [InlineData("shards", 1, "training.local.shards is 1, but must be from 2 to 64")]
    [InlineData("shards", 5, "training.local.shards is 5, but must divide training.batch_size 32; the nearest numbers that do are 4 and 8")]
    [InlineData("outer_learning_rate", 0, "training.local.outer_learning_rate is 0")]
    [InlineData("outer_momentum", 1, "training.local.outer_momentum is 1, but must be at least 0 and below 1")]
    [InlineData("clip_norm", -1, "training.local.clip_norm is -1")]
    [InlineData("wire", 0, "training.local.wire is 'int4', but must be one of: fp32, int16, int8")]
    [InlineData("int8", 32, "training.local.wire is int8, but the sum of training.local.shards 32")]
    [InlineData("optimizer_state", 0, "training.local.optimizer_state is 'keep', but must be one of: average, reset")]
    [InlineData("own_data", 0, "training.local.optimizer_state is average, but with training.local.own_data")]
    [InlineData("centered", 0, "training.local.optimizer_state is average, but a mean of the state of optimizer.centered is none")]
    [InlineData("micro_batch_size", 32, "training.micro_batch_size is 32, but must divide the 16 sequences of a shard")]
    [InlineData("min_workers", 3, "training.min_workers is 3, but at most training.local.shards 2 workers can take part")]
    [InlineData("validation_interval", 125, "training.validation_interval is 125, but must be a multiple of training.local.steps 50")]
    [InlineData("checkpoint_interval", 125, "training.checkpoint_interval is 125, but must be a multiple of training.local.steps 50")]
    [InlineData("exchange", 0, "training.exchange is set, but rounds of training.local")]
    [InlineData("fp16", 0, "training.precision is fp16, but shards that are trained apart")]
    public void WhatDoesNotFitIsRefusedWithKeyAndRemedy(string key, int value, string message)
    {
        var error = Assert.Throws<RpcException>(() => Resolve(s =>
        {
            var training = s.Training;
            var local = training.Local = new LocalSpec();
            switch (key)
            {
                case "steps":
                    local.Steps = value;
                    break;
                case "shards":
                    local.Shards = value;
                    break;
                case "outer_learning_rate":
                    local.OuterLearningRate = value;
                    break;
                case "outer_momentum":
                    local.OuterMomentum = value;
                    break;
                case "clip_norm":
                    local.ClipNorm = value;
                    break;
                case "wire":
                    local.Wire = "int4";
                    break;
                case "int8":
                    (local.Wire, local.Shards) = ("int8", value);
                    break;
                case "optimizer_state":
                    local.OptimizerState = "keep";
                    break;
                case "own_data":
                    (local.OwnData, local.OptimizerState) = (true, "average");
                    break;
                case "centered":
                    s.Optimizer = new OptimizerSpec { Kind = "rmsprop", Centered = true };
                    break;
                case "micro_batch_size":
                    training.MicroBatchSize = value;
                    break;
                case "min_workers":
                    (training.MicroBatchSize, training.MinWorkers) = (8, value);
                    break;
                case "validation_interval":
                    training.ValidationInterval = value;
                    break;
                case "checkpoint_interval":
                    training.CheckpointInterval = value;
                    break;
                case "exchange":
                    training.Exchange = new ExchangeSpec { Wire = "bf16" };
                    break;
                default:
                    training.Precision = "fp16";
                    break;
            }
        }));
        Assert.Equal(StatusCode.InvalidArgument, error.StatusCode);
        Assert.StartsWith(message, error.Status.Detail);
    }

    private static RunSpec Resolve(Action<RunSpec> change)
    {
        var spec = new RunSpec { Dataset = new DatasetSpec(), Training = new TrainingSpec() };
        spec.Dataset.Sources.Add("dotnet-docs:");
        change(spec);
        return RunSpecResolver.Resolve(spec, "a-run");
    }
}
