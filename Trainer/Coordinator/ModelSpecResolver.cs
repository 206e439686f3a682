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
        SpecCheck.OneOf(resolved.Architecture, ["gpt2", "llama", NgramTokenModel.Architecture], "model.architecture");
        SpecCheck.That(resolved.Ngram is null, "model.ngram", $"is set, but model.architecture is {resolved.Architecture}; set model.architecture to {NgramTokenModel.Architecture}, or leave model.ngram out");
        SpecCheck.InRange(resolved.Layers, 1, 1024, "model.layers");
        SpecCheck.InRange(resolved.Width, 1, 65_536, "model.width");
        SpecCheck.InRange(resolved.Heads, 1, resolved.Width, "model.heads");
        SpecCheck.That(resolved.Width % resolved.Heads == 0, "model.heads",
            $"is {resolved.Heads}, but must divide model.width {resolved.Width}; the nearest numbers that do are {SpecCheck.Divisors(resolved.Width, resolved.Heads)}");
        SpecCheck.InRange(resolved.Context, 1, 1 << 20, "model.context");
        SpecCheck.Share(resolved.Dropout, "model.dropout");
        if (resolved.Architecture == "llama")
        {
            ResolveLlama(resolved);
        }
        else
        {
            RequireNoLlama(resolved);
        }

        resolved.Objective = resolved.HasObjective ? resolved.Objective : "causal";
        SpecCheck.OneOf(resolved.Objective, ["causal"], "model.objective");
        return resolved;
    }

    private static void ResolveLlama(ModelSpec model)
    {
        SpecCheck.That(model.Width / model.Heads % 2 == 0, "model.heads",
            $"is {model.Heads}, which makes heads of {model.Width / model.Heads} channels; the rotary positions of a llama need an even number");
        model.KvHeads = model.HasKvHeads ? model.KvHeads : model.Heads;
        SpecCheck.InRange(model.KvHeads, 1, model.Heads, "model.kv_heads", "the upper end is model.heads");
        SpecCheck.That(model.Heads % model.KvHeads == 0, "model.kv_heads",
            $"is {model.KvHeads}, but must divide model.heads {model.Heads}; the nearest numbers that do are {SpecCheck.Divisors(model.Heads, model.KvHeads)}");
        model.FeedForwardWidth = model.HasFeedForwardWidth ? model.FeedForwardWidth : ((model.Width * 8 / 3) + 31) / 32 * 32;
        SpecCheck.InRange(model.FeedForwardWidth, 1, 1 << 18, "model.feed_forward_width");
        model.RopeTheta = model.HasRopeTheta ? model.RopeTheta : 10_000;
        SpecCheck.InRange(model.RopeTheta, 1, 1e12, "model.rope_theta");
        model.Tied = !model.HasTied || model.Tied;
        model.Bias = model.HasBias && model.Bias;
        SpecCheck.That(!model.Bias, "model.bias", $"is true, but a llama has no biases. Leave it out");
    }

    private static void RequireNoLlama(ModelSpec model)
    {
        foreach (var (isSet, key) in new[] { (model.HasKvHeads, "kv_heads"), (model.HasFeedForwardWidth, "feed_forward_width"), (model.HasRopeTheta, "rope_theta") })
        {
            SpecCheck.That(!isSet, $"model.{key}", $"is set, but is for model.architecture llama only, and it is {model.Architecture}. Leave it out");
        }

        model.Tied = !model.HasTied || model.Tied;
        SpecCheck.That(model.Tied, "model.tied", $"is false, but the output embedding of a {model.Architecture} is its input embedding. Leave it out, or take model.architecture llama");
    }

    private static ModelSpec OfPreset(ModelSpec model)
    {
        model.Preset = model.HasPreset ? model.Preset : ModelPresets.DefaultOf(model.Architecture);
        SpecCheck.OneOf(model.Preset, ModelPresets.All.Keys, "model.preset");
        var merged = ModelPresets.All[model.Preset].Clone();
        SpecCheck.That(!ModelPresets.All.Values.Any(p => p.Architecture == model.Architecture) || merged.Architecture == model.Architecture, "model.preset",
            $"is {model.Preset}, a {merged.Architecture}, but model.architecture is {model.Architecture}. Leave one of them out");
        merged.MergeFrom(model);
        return merged;
    }
}
