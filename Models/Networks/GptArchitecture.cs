using System.Text.Json.Nodes;
using TorchSharp;

namespace LlmPipeline.Models.Networks;

/// <summary>GPT-2 in files: names and shapes of Hugging Face checkpoints, <c>config.json</c> as transformers has it.</summary>
internal sealed class GptArchitecture : NetworkArchitecture
{
    public override string Name => "gpt2";

    public override bool HasAttention => true;

    public override string Prefix => "transformer.";

    public override string Embedding => "transformer.wte.weight";

    public override bool InputFirst => true;

    public override IReadOnlyList<string> AdapterTargets => ["c_attn", "c_proj", "c_fc"];

    public override bool IsEmbedding(string name) => name is "transformer.wte.weight" or "transformer.wpe.weight";

    public override bool TakesAutocast => true;

    public override void Validate(ModelConfig config)
    {
        ModelConfig.Check(config.Heads > 0 && config.Width % config.Heads == 0, $"Heads is {config.Heads}; it must be at least 1 and divide Width, which is {config.Width}.");
        ModelConfig.Check(config.Tied, "Tied is false; the head of a GPT-2 is its embedding.");
    }

    // Linear weights are (in, out).
    public override IEnumerable<TensorShape> Tensors(ModelConfig config)
    {
        long C = config.Width;
        yield return new("transformer.wte.weight", [config.VocabularySize, C]);
        yield return new("transformer.wpe.weight", [config.Context, C]);
        for (var i = 0; i < config.Layers; i++)
        {
            yield return new($"transformer.h.{i}.attn.c_attn.weight", [C, 3 * C]);
            yield return new($"transformer.h.{i}.attn.c_proj.weight", [C, C]);
            yield return new($"transformer.h.{i}.mlp.c_fc.weight", [C, 4 * C]);
            yield return new($"transformer.h.{i}.mlp.c_proj.weight", [4 * C, C]);
        }

        for (var i = 0; i < config.Layers; i++)
        {
            yield return new($"transformer.h.{i}.ln_1.weight", [C]);
            yield return new($"transformer.h.{i}.ln_1.bias", [C], IsBias: true);
            yield return new($"transformer.h.{i}.attn.c_attn.bias", [3 * C], IsBias: true);
            yield return new($"transformer.h.{i}.attn.c_proj.bias", [C], IsBias: true);
            yield return new($"transformer.h.{i}.ln_2.weight", [C]);
            yield return new($"transformer.h.{i}.ln_2.bias", [C], IsBias: true);
            yield return new($"transformer.h.{i}.mlp.c_fc.bias", [4 * C], IsBias: true);
            yield return new($"transformer.h.{i}.mlp.c_proj.bias", [C], IsBias: true);
        }

        yield return new("transformer.ln_f.weight", [C]);
        yield return new("transformer.ln_f.bias", [C], IsBias: true);
    }

    // As in GPT-2: normal with standard deviation 0.02, in the projections back to the residual stream divided by
    // sqrt(2 layers); LayerNorm weights 1, biases 0.
    public override void Initialize(ModelConfig config, ParameterView view, Span<float> values, ulong seed)
    {
        if (view.Shape.Count >= 2)
        {
            var toResidual = view.Name.EndsWith(".c_proj.weight", StringComparison.Ordinal);
            ParameterLayout.FillNormal(values, toResidual ? 0.02 / Math.Sqrt(2.0 * config.Layers) : 0.02, seed);
        }
        else if (view.Name.EndsWith(".weight", StringComparison.Ordinal))
        {
            values.Fill(1);
        }
    }

    public override LanguageModel Create(ModelConfig config, torch.Device device) => new Gpt(config, device);

    /// <summary>The key <c>bias</c> is this project's own.</summary>
    public override JsonObject WriteConfig(ModelConfig config) => new()
    {
        ["architectures"] = new JsonArray("GPT2LMHeadModel"),
        [ConfigKeys.ModelType] = Name,
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
        ["layer_norm_epsilon"] = config.NormEpsilon,
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
    };

    public override ModelConfig ReadConfig(ConfigKeys keys)
    {
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

        return new ModelConfig
        {
            Architecture = Name,
            VocabularySize = keys.Integer("vocab_size"),
            Context = keys.Integer("n_positions"),
            Width = width,
            Layers = keys.Integer("n_layer"),
            Heads = keys.Integer("n_head"),
            Dropout = keys.Real("resid_pdrop", 0),
            NormEpsilon = keys.Real("layer_norm_epsilon", 1e-5),
            Bias = keys.Bool("bias", true),
            EndOfTextId = keys.Has("eos_token_id") ? keys.Integer("eos_token_id") : 0,
        };
    }

    // Mask buffers of older versions.
    public override bool IsIgnored(string name) => name.EndsWith(".attn.bias", StringComparison.Ordinal) || name.EndsWith(".attn.masked_bias", StringComparison.Ordinal);
}
