using System.Text.Json.Nodes;

namespace LlmPipeline.Models.Networks;

/// <summary>Architectures whose files have this project's own names: an embedding of its own width, layers of one width, a head.</summary>
internal abstract class OwnFormatArchitecture : NetworkArchitecture
{
    public sealed override string Embedding => "embedding.weight";

    public sealed override JsonObject WriteConfig(ModelConfig config)
    {
        var json = new JsonObject
        {
            [ConfigKeys.ModelType] = Name,
            ["vocab_size"] = config.VocabularySize,
            ["sequence_length"] = config.Context,
            ["embedding_size"] = config.EmbeddingWidth ?? config.Width,
            ["hidden_size"] = config.Width,
            ["num_layers"] = config.Layers,
            ["dropout"] = config.Dropout,
            ["tie_word_embeddings"] = config.Tied,
            ["bias"] = config.Bias,
            ["bos_token_id"] = config.EndOfTextId,
            ["eos_token_id"] = config.EndOfTextId,
            ["torch_dtype"] = "float32",
        };
        WriteOwn(config, json);
        return json;
    }

    public sealed override ModelConfig ReadConfig(ConfigKeys keys)
    {
        var width = keys.Integer("hidden_size");
        var embedding = keys.Has("embedding_size") ? keys.Integer("embedding_size") : width;
        return ReadOwn(keys, new ModelConfig
        {
            Architecture = Name,
            VocabularySize = keys.Integer("vocab_size"),
            Context = keys.Integer("sequence_length"),
            EmbeddingWidth = embedding == width ? null : embedding,
            Width = width,
            Layers = keys.Integer("num_layers"),
            Dropout = keys.Real("dropout", 0),
            Tied = keys.Bool("tie_word_embeddings", false),
            Bias = keys.Bool("bias", true),
            EndOfTextId = keys.Has("eos_token_id") ? keys.Integer("eos_token_id") : 0,
        });
    }

    /// <summary>Adds the keys that this architecture alone has.</summary>
    protected abstract void WriteOwn(ModelConfig config, JsonObject json);

    /// <summary>Reads them.</summary>
    protected abstract ModelConfig ReadOwn(ConfigKeys keys, ModelConfig config);

    /// <summary>The weights between the last layer and the logits: a head, or, where it is the embedding of another width, a projection.</summary>
    protected static IEnumerable<TensorShape> HeadWeights(ModelConfig config)
    {
        long E = config.EmbeddingWidth ?? config.Width, H = config.Width;
        if (!config.Tied)
        {
            yield return new("lm_head.weight", [config.VocabularySize, H]);
        }
        else if (E != H)
        {
            yield return new("projection.weight", [E, H]);
        }
    }
}
