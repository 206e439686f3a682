using LlmPipeline.Models;
using LlmPipeline.Runs.V1;

namespace LlmPipeline.Trainer.Coordinator;

/// <summary><c>model</c> of a run.</summary>
internal static class ModelSpecResolver
{
    /// <summary>Fills in what is open and checks all of it.</summary>
    /// <param name="model">As it was sent.</param>
    /// <param name="hasSize">The run's <c>size</c> has filled in what a preset would.</param>
    /// <exception cref="Grpc.Core.RpcException">INVALID_ARGUMENT with a message that names key, range and remedy.</exception>
    public static ModelSpec Resolve(ModelSpec model, bool hasSize)
    {
        var resolved = hasSize ? model : OfPreset(model);
        SpecCheck.OneOf(resolved.Architecture, ["gpt2", "llama", "rnn", "lstm", "gru", "feed-forward", NgramTokenModel.Architecture], "model.architecture");
        SpecCheck.That(resolved.Ngram is null, "model.ngram", $"is set, but model.architecture is {resolved.Architecture}; set model.architecture to {NgramTokenModel.Architecture}, or leave model.ngram out");
        SpecCheck.InRange(resolved.Layers, 1, 1024, "model.layers");
        SpecCheck.InRange(resolved.Width, 1, 65_536, "model.width");
        SpecCheck.InRange(resolved.Context, 1, 1 << 20, "model.context");
        SpecCheck.Share(resolved.Dropout, "model.dropout");
        RefuseOthersKeys(resolved);
        switch (resolved.Architecture)
        {
            case "gpt2":
                ResolveHeads(resolved);
                resolved.Tied = !resolved.HasTied || resolved.Tied;
                SpecCheck.That(resolved.Tied, "model.tied", $"is false, but the output embedding of a gpt2 is its input embedding. Leave it out, or take model.architecture llama");
                break;
            case "llama":
                ResolveHeads(resolved);
                ResolveLlama(resolved);
                break;
            case "feed-forward":
                ResolveEmbedding(resolved);
                resolved.Window = resolved.HasWindow ? resolved.Window : 8;
                SpecCheck.InRange(resolved.Window, 1, 1024, "model.window");
                resolved.DirectConnections = resolved.HasDirectConnections && resolved.DirectConnections;
                break;
            default:
                ResolveEmbedding(resolved);
                resolved.VariationalDropout = resolved.HasVariationalDropout && resolved.VariationalDropout;
                resolved.RecurrentDropout = resolved.HasRecurrentDropout ? resolved.RecurrentDropout : 0;
                SpecCheck.Share(resolved.RecurrentDropout, "model.recurrent_dropout");
                break;
        }

        resolved.Objective = resolved.HasObjective ? resolved.Objective : "causal";
        SpecCheck.OneOf(resolved.Objective, ["causal", "masked"], "model.objective");
        SpecCheck.That(resolved.Objective == "causal" || ModelPresets.Transformers.Contains(resolved.Architecture), "model.objective",
            $"is masked, but a {resolved.Architecture} sees only what comes before a token; take model.architecture gpt2 or llama");
        resolved.Pooling = resolved.HasPooling ? resolved.Pooling : Poolings.NameOf(Pooling.Last);
        SpecCheck.OneOf(resolved.Pooling, Poolings.Names, "model.pooling");
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

    private static void ResolveHeads(ModelSpec model)
    {
        SpecCheck.InRange(model.Heads, 1, model.Width, "model.heads");
        SpecCheck.That(model.Width % model.Heads == 0, "model.heads",
            $"is {model.Heads}, but must divide model.width {model.Width}; the nearest numbers that do are {SpecCheck.Divisors(model.Width, model.Heads)}");
    }

    private static void ResolveEmbedding(ModelSpec model)
    {
        model.EmbeddingWidth = model.HasEmbeddingWidth ? model.EmbeddingWidth : model.Width;
        SpecCheck.InRange(model.EmbeddingWidth, 1, 65_536, "model.embedding_width");
        model.Tied = model.HasTied && model.Tied;
        model.Bias = !model.HasBias || model.Bias;
    }

    // Keys that mean nothing to the architecture are refused rather than ignored.
    private static void RefuseOthersKeys(ModelSpec model)
    {
        string[] transformers = ModelPresets.Transformers, llama = ["llama"], recurrent = ["rnn", "lstm", "gru"], feedForward = ["feed-forward"];
        (bool IsSet, string Key, string[] Architectures)[] keys =
        [
            (model.HasHeads, "heads", transformers), (model.HasKvHeads, "kv_heads", llama), (model.HasFeedForwardWidth, "feed_forward_width", llama),
            (model.HasRopeTheta, "rope_theta", llama), (model.HasEmbeddingWidth, "embedding_width", [.. recurrent, .. feedForward]),
            (model.HasVariationalDropout, "variational_dropout", recurrent), (model.HasRecurrentDropout, "recurrent_dropout", recurrent),
            (model.HasWindow, "window", feedForward), (model.HasDirectConnections, "direct_connections", feedForward),
        ];
        foreach (var (_, key, architectures) in keys.Where(k => k.IsSet && !k.Architectures.Contains(model.Architecture)))
        {
            SpecCheck.That(false, $"model.{key}", $"is set, but is for model.architecture {string.Join(", ", architectures)} only, and it is {model.Architecture}. Leave it out");
        }
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
