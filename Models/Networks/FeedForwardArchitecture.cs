using System.Text.Json.Nodes;
using TorchSharp;

namespace LlmPipeline.Models.Networks;

/// <summary>The feed-forward network in files; all names are this project's own.</summary>
internal sealed class FeedForwardArchitecture : NetworkArchitecture
{
    public override string Name => "feed-forward";

    public override string Embedding => "embedding.weight";

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

        if (!config.Tied)
        {
            yield return new("lm_head.weight", [V, H]);
        }
        else if (E != H)
        {
            yield return new("projection.weight", [E, H]);
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

    public override JsonObject WriteConfig(ModelConfig config) => new()
    {
        [ConfigKeys.ModelType] = Name,
        ["vocab_size"] = config.VocabularySize,
        ["sequence_length"] = config.Context,
        ["window"] = config.Window,
        ["embedding_size"] = config.EmbeddingWidth ?? config.Width,
        ["hidden_size"] = config.Width,
        ["num_layers"] = config.Layers,
        ["direct_connections"] = config.DirectConnections,
        ["dropout"] = config.Dropout,
        ["tie_word_embeddings"] = config.Tied,
        ["bias"] = config.Bias,
        ["bos_token_id"] = config.EndOfTextId,
        ["eos_token_id"] = config.EndOfTextId,
        ["torch_dtype"] = "float32",
    };

    public override ModelConfig ReadConfig(ConfigKeys keys)
    {
        var width = keys.Integer("hidden_size");
        var embedding = keys.Has("embedding_size") ? keys.Integer("embedding_size") : width;
        return new ModelConfig
        {
            Architecture = Name,
            VocabularySize = keys.Integer("vocab_size"),
            Context = keys.Integer("sequence_length"),
            Window = keys.Integer("window"),
            EmbeddingWidth = embedding == width ? null : embedding,
            Width = width,
            Layers = keys.Integer("num_layers"),
            DirectConnections = keys.Bool("direct_connections", false),
            Dropout = keys.Real("dropout", 0),
            Tied = keys.Bool("tie_word_embeddings", false),
            Bias = keys.Bool("bias", true),
            EndOfTextId = keys.Has("eos_token_id") ? keys.Integer("eos_token_id") : 0,
        };
    }
}
