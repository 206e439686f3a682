using LlmPipeline.Models;
using LlmPipeline.Runs.V1;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary><c>model</c> of a run.</summary>
internal static class ModelSpecResolver
{
    /// <summary>Fills in what is open and checks all of it.</summary>
    /// <exception cref="Grpc.Core.RpcException">INVALID_ARGUMENT with a message that names key, range and remedy.</exception>
    /// <param name="model">As it was sent.</param>
    /// <param name="hasSize">The run's <c>size</c> has filled in what a preset would.</param>
    public static ModelSpec Resolve(ModelSpec model, bool hasSize)
    {
        var resolved = hasSize ? model : OfPreset(model);
        SpecCheck.OneOf(resolved.Architecture, ["gpt2", NgramTokenModel.Architecture], "model.architecture");
        SpecCheck.That(resolved.Ngram is null, "model.ngram", $"is set, but model.architecture is {resolved.Architecture}; set model.architecture to {NgramTokenModel.Architecture}, or leave model.ngram out");
        SpecCheck.InRange(resolved.Layers, 1, 1024, "model.layers");
        SpecCheck.InRange(resolved.Width, 1, 65_536, "model.width");
        SpecCheck.InRange(resolved.Heads, 1, resolved.Width, "model.heads");
        SpecCheck.That(resolved.Width % resolved.Heads == 0, "model.heads",
            $"is {resolved.Heads}, but must divide model.width {resolved.Width}; the nearest numbers that do are {SpecCheck.Divisors(resolved.Width, resolved.Heads)}");
        SpecCheck.InRange(resolved.Context, 1, 1 << 20, "model.context");
        SpecCheck.Share(resolved.Dropout, "model.dropout");
        return resolved;
    }

    private static ModelSpec OfPreset(ModelSpec model)
    {
        model.Preset = model.HasPreset ? model.Preset : ModelPresets.Default;
        SpecCheck.OneOf(model.Preset, ModelPresets.All.Keys, "model.preset");
        var merged = ModelPresets.All[model.Preset].Clone();
        merged.MergeFrom(model);
        return merged;
    }
}
