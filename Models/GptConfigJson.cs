using System.Text.Json.Nodes;

namespace LlmPipeline.Models;

/// <summary><c>config.json</c> of a GPT-2, as Hugging Face's transformers has it.</summary>
internal static class GptConfigJson
{
    /// <summary><c>model_type</c>.</summary>
    public const string Architecture = "gpt2";

    /// <summary>Writes <c>config.json</c>. The key <c>bias</c> is this project's own.</summary>
    public static string Write(ModelConfig config) => new JsonObject
    {
        ["architectures"] = new JsonArray("GPT2LMHeadModel"),
        [ConfigKeys.ModelType] = Architecture,
        ["activation_function"] = "gelu_new",
        ["vocab_size"] = config.VocabularySize,
        ["n_positions"] = config.Context,
        ["n_ctx"] = config.Context,
        ["n_embd"] = config.Width,
        ["n_layer"] = config.Layers,
        ["n_head"] = config.Heads,
        ["n_inner"] = null,
        ["attn_pdrop"] = config.Dropout,
        ["embd_pdrop"] = config.Dropout,
        ["resid_pdrop"] = config.Dropout,
        ["layer_norm_epsilon"] = config.LayerNormEpsilon,
        ["initializer_range"] = 0.02,
        ["scale_attn_weights"] = true,
        ["scale_attn_by_inverse_layer_idx"] = false,
        ["reorder_and_upcast_attn"] = false,
        ["tie_word_embeddings"] = true,
        ["bos_token_id"] = config.EndOfTextId,
        ["eos_token_id"] = config.EndOfTextId,
        ["torch_dtype"] = "float32",
        ["use_cache"] = true,
        ["bias"] = config.Bias,
    }.ToJsonString(ConfigKeys.Indented) + "\n";

    /// <summary>Reads <c>config.json</c>.</summary>
    /// <exception cref="InvalidDataException">A key is missing or wrong, or it describes a network that this project does not have.</exception>
    public static ModelConfig Read(ConfigKeys keys)
    {
        keys.Require(ConfigKeys.ModelType, Architecture);
        if (keys.Text("activation_function", "gelu_new") is not ("gelu_new" or "gelu_pytorch_tanh") and var activation)
        {
            throw keys.Wrong("activation_function", $"'{activation}'; gelu_new can be computed");
        }

        keys.RequireBool("scale_attn_weights", expected: true);
        keys.RequireBool("scale_attn_by_inverse_layer_idx", expected: false);
        keys.RequireBool("add_cross_attention", expected: false);
        keys.RequireBool("tie_word_embeddings", expected: true);
        var width = keys.Integer("n_embd");
        var inner = keys.Has("n_inner") ? keys.Integer("n_inner") : 4 * width;
        if (inner != 4 * width)
        {
            throw keys.Wrong("n_inner", $"{inner}; null or 4 * n_embd can be computed");
        }

        var config = new ModelConfig
        {
            VocabularySize = keys.Integer("vocab_size"),
            Context = keys.Integer("n_positions"),
            Width = width,
            Layers = keys.Integer("n_layer"),
            Heads = keys.Integer("n_head"),
            Dropout = keys.Real("resid_pdrop", 0),
            LayerNormEpsilon = keys.Real("layer_norm_epsilon", 1e-5),
            Bias = keys.Bool("bias", true),
            EndOfTextId = keys.Has("eos_token_id") ? keys.Integer("eos_token_id") : 0,
        };
        try
        {
            config.Validate();
            _ = GptLayout.Place(config);
        }
        catch (ArgumentException exception)
        {
            throw new InvalidDataException($"'{keys.Path}' does not describe a network: {exception.Message}", exception);
        }

        return config;
    }
}
