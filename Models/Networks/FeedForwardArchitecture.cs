using System.Text.Json.Nodes;
using TorchSharp;

namespace LlmPipeline.Models.Networks;

/// <summary>The feed-forward network in files; all names are this project's own.</summary>
internal sealed class FeedForwardArchitecture : OwnFormatArchitecture
{
    public override string Name => "feed-forward";

    public override void Validate(ModelConfig config)
    {
        ModelConfig.Check(config.Heads == 0, $"Heads is {config.Heads}; '{Name}' has no attention: leave it 0.");
        ModelConfig.Check(config.Window is > 0 and <= 1024, $"Window is {config.Window}; it must be in 1..1024, the tokens that a prediction of '{Name}' sees.");
        ModelConfig.Check(!config.VariationalDropout && config.RecurrentDropout == 0, $"VariationalDropout and RecurrentDropout are of recurrent networks, not of '{Name}'.");
        ModelConfig.Check(!config.DirectConnections || config.Classes == 0, "DirectConnections go to the head of a language model; a classifier has none.");
    }

    public override IEnumerable<TensorShape> Tensors(ModelConfig config)
    {
        long E = config.EmbeddingWidth ?? config.Width, H = config.Width, V = config.VocabularySize;
        yield return new("embedding.weight", [V, E]);
        for (var i = 0; i < config.Layers; i++)
        {
            yield return new($"hidden.{i}.weight", [H, i == 0 ? config.Window * E : H]);
        }

        if (config.DirectConnections)
        {
            yield return new("direct.weight", [V, config.Window * E]);
        }

        foreach (var weight in HeadWeights(config))
        {
            yield return weight;
        }

        for (var i = 0; config.Bias && i < config.Layers; i++)
        {
            yield return new($"hidden.{i}.bias", [H]);
        }

        if (config.Bias)
        {
            yield return new("lm_head.bias", [V]);
        }
    }

    // Weights as torch.nn has them: uniform up to 1 / sqrt(inputs); an embedding is standard normal, or, where it is the head as
    // well, uniform like a head. Direct connections and biases are 0.
    public override void Initialize(ModelConfig config, ParameterView view, Span<float> values, ulong seed)
    {
        if (view.Name == Embedding && !config.Tied)
        {
            ParameterLayout.FillNormal(values, 1, seed);
        }
        else if (view.Shape.Count >= 2 && view.Name != "direct.weight")
        {
            ParameterLayout.FillUniform(values, 1 / Math.Sqrt(view.Shape[1]), seed);
        }
    }

    public override LanguageModel Create(ModelConfig config, torch.Device device) => new FeedForward(config, device);

    protected override void WriteOwn(ModelConfig config, JsonObject json)
    {
        json["window"] = config.Window;
        json["direct_connections"] = config.DirectConnections;
    }

    protected override ModelConfig ReadOwn(ConfigKeys keys, ModelConfig config) =>
        config with { Window = keys.Integer("window"), DirectConnections = keys.Bool("direct_connections", false) };
}
