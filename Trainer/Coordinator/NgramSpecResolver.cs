using System.Collections;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using LlmPipeline.Models;
using LlmPipeline.Runs.V1;
using LlmPipeline.Text.NGrams;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary>
/// The part of a spec that is about an n-gram model. It is counted in one pass by one worker, so that what sizes a network and
/// how its weights are updated means nothing: such keys are refused rather than ignored.
/// </summary>
internal static class NgramSpecResolver
{
    /// <summary>What a resolved spec says of the training: one step by one worker.</summary>
    private static readonly TrainingSpec OnePass = new()
    {
        Steps = 1,
        BatchSize = 1,
        MicroBatchSize = 1,
        ValidationInterval = 1,
        ValidationSequences = 0,
        CheckpointInterval = 1,
        KeepCheckpoints = 1,
        MaxSeconds = 0,
        MinWorkers = 1,
        StartWorkers = 1,
        MaxWorkers = 1,
    };

    /// <summary>Whether a spec asks for an n-gram model.</summary>
    public static bool Applies(RunSpec spec) => spec.Model is { HasArchitecture: true, Architecture: NgramTokenModel.Architecture };

    /// <summary>Fills in defaults and checks.</summary>
    /// <exception cref="Grpc.Core.RpcException">INVALID_ARGUMENT with a message that names key, range and remedy.</exception>
    public static void Resolve(RunSpec spec)
    {
        SpecCheck.That(!spec.HasSize, "size", $"sizes a network; an n-gram model has model.ngram.order. Leave it out");
        var network = spec.Model.Clone();
        network.ClearArchitecture();
        network.Ngram = null;
        Refuse(network, "model", null, "sizes a network; an n-gram model has model.ngram.order. Leave it out");
        Refuse(spec.Optimizer ?? new OptimizerSpec(), "optimizer", null, "is about gradients, which an n-gram model does not have. Leave it out");
        Refuse(spec.Training ?? new TrainingSpec(), "training", OnePass, "has nothing to set for an n-gram model, which is counted in one pass by one worker. Leave it out");
        spec.Optimizer = null;
        spec.Training = OnePass.Clone();

        var ngram = spec.Model.Ngram ??= new NgramSpec();
        ngram.Order = ngram.HasOrder ? ngram.Order : 3;
        SpecCheck.InRange(ngram.Order, 1, NgramOptions.MaxOrder, "model.ngram.order");
        ngram.Smoothing = ngram.HasSmoothing ? ngram.Smoothing : NgramOptions.SmoothingNames[0];
        SpecCheck.OneOf(ngram.Smoothing, NgramOptions.SmoothingNames, "model.ngram.smoothing");
        ngram.K = ngram.HasK ? ngram.K : 1;
        SpecCheck.Positive(ngram.K, 1e6, "model.ngram.k");
    }

    private static void Refuse(IMessage message, string key, IMessage? allowed, string why)
    {
        foreach (var field in message.Descriptor.Fields.InFieldNumberOrder().Where(f => IsSet(f, message)))
        {
            var isAllowed = allowed is not null && Equals(field.Accessor.GetValue(message), field.Accessor.GetValue(allowed));
            SpecCheck.That(isAllowed, $"{key}.{field.Name}", $"{why}");
        }
    }

    private static bool IsSet(FieldDescriptor field, IMessage message) =>
        field.IsRepeated ? ((IList)field.Accessor.GetValue(message)).Count > 0 : field.Accessor.HasValue(message);
}
