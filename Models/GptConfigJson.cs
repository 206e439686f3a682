using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace LlmPipeline.Models;

/// <summary><c>config.json</c> and <c>generation_config.json</c> of a GPT-2, as Hugging Face's transformers has them.</summary>
internal static class GptConfigJson
{
    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>Writes <c>config.json</c>. The key <c>bias</c> is this project's own.</summary>
    public static string Write(ModelConfig config) => new JsonObject
    {
        ["architectures"] = new JsonArray("GPT2LMHeadModel"),
        ["model_type"] = "gpt2",
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
    }.ToJsonString(Indented) + "\n";

    /// <summary>Writes <c>generation_config.json</c>.</summary>
    public static string WriteGeneration(ModelConfig config) => new JsonObject
    {
        ["_from_model_config"] = true,
        ["bos_token_id"] = config.EndOfTextId,
        ["eos_token_id"] = config.EndOfTextId,
        ["pad_token_id"] = config.EndOfTextId,
        ["do_sample"] = true,
        ["temperature"] = 1.0,
        ["top_k"] = 0,
        ["top_p"] = 1.0,
    }.ToJsonString(Indented) + "\n";

    /// <summary>Reads <c>config.json</c>.</summary>
    /// <exception cref="InvalidDataException">It is not JSON, a key is missing or wrong, or it describes a network that this project does not have.</exception>
    public static ModelConfig Read(string json, string path)
    {
        try
        {
            using var document = JsonDocument.Parse(json);
            var root = document.RootElement.ValueKind == JsonValueKind.Object
                ? document.RootElement
                : throw new InvalidDataException($"'{path}' must be a JSON object.");
            return Read(new Keys(root, path));
        }
        catch (JsonException exception)
        {
            throw new InvalidDataException($"'{path}' is not valid JSON: {exception.Message}", exception);
        }
    }

    private static ModelConfig Read(Keys keys)
    {
        keys.Require("model_type", "gpt2");
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

    private sealed record Keys(JsonElement Root, string Path)
    {
        public bool Has(string key) => Root.TryGetProperty(key, out var value) && value.ValueKind != JsonValueKind.Null;

        // An end-of-text id may be a list; its first counts.
        public int Integer(string key)
        {
            var value = Has(key) ? Root.GetProperty(key) : throw Wrong(key, "missing");
            value = value.ValueKind == JsonValueKind.Array && value.GetArrayLength() > 0 ? value[0] : value;
            return value.ValueKind == JsonValueKind.Number && value.TryGetInt32(out var number) ? number : throw Wrong(key, $"{value.GetRawText()}, not a whole number");
        }

        public double Real(string key, double absent)
            => !Has(key) ? absent : Root.GetProperty(key) is { ValueKind: JsonValueKind.Number } value ? value.GetDouble() : throw Wrong(key, "not a number");

        public string Text(string key, string absent)
            => !Has(key) ? absent : Root.GetProperty(key) is { ValueKind: JsonValueKind.String } value ? value.GetString()! : throw Wrong(key, "not a string");

        public bool Bool(string key, bool absent)
            => !Has(key) ? absent : Root.GetProperty(key) is { ValueKind: JsonValueKind.True or JsonValueKind.False } value ? value.GetBoolean() : throw Wrong(key, "not true or false");

        public void Require(string key, string expected)
        {
            if (Text(key, "") is var value && value != expected)
            {
                throw Wrong(key, $"'{value}'; '{expected}' is supported");
            }
        }

        public void RequireBool(string key, bool expected)
        {
            if (Bool(key, expected) != expected)
            {
                throw Wrong(key, $"{(expected ? "false" : "true")}, which this project does not compute");
            }
        }

        public InvalidDataException Wrong(string key, string what) => new($"'{Path}': {key} is {what}.");
    }
}
