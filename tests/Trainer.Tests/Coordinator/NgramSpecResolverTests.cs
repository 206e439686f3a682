using Google.Protobuf;
using Grpc.Core;
using LlmPipeline.Datasets.V1;
using LlmPipeline.Runs.V1;
using LlmPipeline.Trainer.Coordinator;

namespace LlmPipeline.Trainer.Tests.Coordinator;

public sealed class NgramSpecResolverTests
{
    [Fact]
    public void DefaultsAreThoseOfTheProtoAndTrainingIsOneStep()
    {
        var spec = Resolve();
        Assert.Equal(new ModelSpec { Architecture = "ngram", Ngram = new NgramSpec { Order = 3, Smoothing = "kneser-ney", K = 1 } }, spec.Model);
        Assert.Equal((1, 1, 1, 1), (spec.Training.Steps, spec.Training.BatchSize, spec.Training.MicroBatchSize, spec.Training.MinWorkers));
        Assert.Null(spec.Optimizer);
        Assert.Equal("best", spec.Evaluation.Checkpoint);
    }

    [Fact]
    public void AResolvedSpecResolvesToItself()
    {
        var spec = Resolve(s => s.Model.Ngram = new NgramSpec { Order = 7, Smoothing = "add-k", K = 0.5 });
        Assert.Equal(spec.ToByteArray(), RunSpecResolver.Resolve(spec, "another-run").ToByteArray());
        Assert.Equal(spec.ToByteArray(), RunSpecResolver.Resolve(RunSpec.Parser.ParseJson(JsonFormatter.Default.Format(spec)), "another-run").ToByteArray());
    }

    public static TheoryData<string, Action<RunSpec>> Mistakes => new()
    {
        { "model.layers sizes a network", s => s.Model.Layers = 2 },
        { "model.preset sizes a network", s => s.Model.Preset = "gpt-tiny" },
        { "model.context sizes a network", s => s.Model.Context = 64 },
        { "optimizer.learning_rate is about gradients", s => s.Optimizer = new OptimizerSpec { LearningRate = 1e-3 } },
        { "training.steps has nothing to set", s => s.Training = new TrainingSpec { Steps = 500 } },
        { "training.min_workers has nothing to set", s => s.Training = new TrainingSpec { MinWorkers = 2 } },
        { "model.ngram.order is 0, but must be from 1 to 16", s => s.Model.Ngram = new NgramSpec { Order = 0 } },
        { "model.ngram.order is 17, but must be from 1 to 16", s => s.Model.Ngram = new NgramSpec { Order = 17 } },
        { "model.ngram.smoothing is 'witten-bell', but must be one of: kneser-ney, maximum-likelihood, add-k, good-turing", s => s.Model.Ngram = new NgramSpec { Smoothing = "witten-bell" } },
        { "model.ngram.k is 0, but must be above 0", s => s.Model.Ngram = new NgramSpec { K = 0 } },
        { "model.ngram.k is NaN, but must be above 0", s => s.Model.Ngram = new NgramSpec { K = double.NaN } },
        { "model.ngram is set, but model.architecture is gpt2", s => s.Model = new ModelSpec { Ngram = new NgramSpec() } },
        { "model.architecture is 'bert', but must be one of: gpt2, llama", s => s.Model.Architecture = "bert" },
    };

    [Theory]
    [MemberData(nameof(Mistakes))]
    public void AKeyThatMeansNothingOrIsOutOfRangeIsNamed(string message, Action<RunSpec> mistake)
    {
        var error = Assert.Throws<RpcException>(() => Resolve(mistake));
        Assert.Equal(StatusCode.InvalidArgument, error.StatusCode);
        Assert.StartsWith(message, error.Status.Detail, StringComparison.Ordinal);
    }

    private static RunSpec Resolve(Action<RunSpec>? change = null)
    {
        var spec = new RunSpec { Dataset = new DatasetSpec { Sources = { "book.txt" } }, Model = new ModelSpec { Architecture = "ngram" } };
        change?.Invoke(spec);
        return RunSpecResolver.Resolve(spec, "some-run");
    }
}
