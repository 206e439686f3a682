using System.Text.Json.Nodes;
using TorchSharp;

namespace LlmPipeline.Models.Networks;

/// <summary>Llama in files: names and shapes of Hugging Face checkpoints, <c>config.json</c> as transformers has it.</summary>
internal sealed class LlamaArchitecture : NetworkArchitecture
{
    private static readonly string[] RopeKeys = ["rope_scaling", "rope_parameters"];

    public override string Name => "llama";

    public override bool HasAttention => true;

    public override string Prefix => "model.";

    public override string Embedding => "model.embed_tokens.weight";

    public override IReadOnlyList<string> AdapterTargets => ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

    public override bool TakesAutocast => true;

    public override void Validate(ModelConfig config)
    {
        ModelConfig.Check(config.Heads > 0, $"Heads is {config.Heads}; it must be at least 1.");
        ModelConfig.Check(config.HeadSize > 0 || config.Width % config.Heads == 0, $"Heads is {config.Heads}; it must divide Width, which is {config.Width}, unless HeadSize is set.");
        ModelConfig.Check(config.HeadWidth is > 0 and <= 1 << 12 && config.HeadWidth % 2 == 0, $"A head has {config.HeadWidth} channels; rotary positions need an even number, at most {1 << 12}.");
        ModelConfig.Check(config.KvHeads > 0 && config.Heads % config.KvHeads == 0, $"KvHeads is {config.KvHeads}; it must be at least 1 and divide Heads, which is {config.Heads}.");
        ModelConfig.Check(config.FeedForwardWidth is > 0 and <= 1 << 18, $"FeedForwardWidth is {config.FeedForwardWidth}; it must be in 1..{1 << 18}.");
        ModelConfig.Check(config.RopeTheta is >= 1 and <= 1e12, $"RopeTheta is {config.RopeTheta}; it must be in 1..1e12.");
        ModelConfig.Check(!config.Bias, "Bias is true; a Llama has no biases.");
    }

    // Linear weights are (out, in).
    public override IEnumerable<TensorShape> Tensors(ModelConfig config)
    {
        long C = config.Width, F = config.FeedForwardWidth, D = config.HeadWidth;
        yield return new(Embedding, [config.VocabularySize, C]);
        for (var i = 0; i < config.Layers; i++)
        {
            yield return new($"model.layers.{i}.self_attn.q_proj.weight", [config.Heads * D, C]);
            yield return new($"model.layers.{i}.self_attn.k_proj.weight", [config.KvHeads * D, C]);
            yield return new($"model.layers.{i}.self_attn.v_proj.weight", [config.KvHeads * D, C]);
            yield return new($"model.layers.{i}.self_attn.o_proj.weight", [C, config.Heads * D]);
            yield return new($"model.layers.{i}.mlp.gate_proj.weight", [F, C]);
            yield return new($"model.layers.{i}.mlp.up_proj.weight", [F, C]);
            yield return new($"model.layers.{i}.mlp.down_proj.weight", [C, F]);
        }

        if (!config.Tied)
        {
            yield return new(Head, [config.VocabularySize, C]);
        }

        for (var i = 0; i < config.Layers; i++)
        {
            yield return new($"model.layers.{i}.input_layernorm.weight", [C]);
            yield return new($"model.layers.{i}.post_attention_layernorm.weight", [C]);
        }

        yield return new("model.norm.weight", [C]);
    }

    // Normal with standard deviation 0.02, in the projections back to the residual stream divided by sqrt(2 layers), as in
    // GPT-2; norm weights 1.
    public override void Initialize(ModelConfig config, ParameterView view, Span<float> values, ulong seed)
    {
        if (view.Shape.Count >= 2)
        {
            var toResidual = view.Name.EndsWith(".o_proj.weight", StringComparison.Ordinal) || view.Name.EndsWith(".down_proj.weight", StringComparison.Ordinal);
            ParameterLayout.FillNormal(values, toResidual ? 0.02 / Math.Sqrt(2.0 * config.Layers) : 0.02, seed);
        }
        else
        {
            values.Fill(1);
        }
    }

    public override LanguageModel Create(ModelConfig config, torch.Device device) => new Llama(config, device);

    public override JsonObject WriteConfig(ModelConfig config) => new()
    {
        ["architectures"] = new JsonArray("LlamaForCausalLM"),
        [ConfigKeys.ModelType] = Name,
        ["hidden_act"] = "silu",
        ["vocab_size"] = config.VocabularySize,
        ["max_position_embeddings"] = config.Context,
        ["hidden_size"] = config.Width,
        ["intermediate_size"] = config.FeedForwardWidth,
        ["num_hidden_layers"] = config.Layers,
        ["num_attention_heads"] = config.Heads,
        ["num_key_value_heads"] = config.KvHeads,
        ["head_dim"] = config.HeadWidth,
        ["rope_theta"] = config.RopeTheta,
        ["rope_scaling"] = null,
        ["rms_norm_eps"] = config.NormEpsilon,
        ["attention_bias"] = false,
        ["mlp_bias"] = false,
        ["attention_dropout"] = config.Dropout,
        ["initializer_range"] = 0.02,
        ["tie_word_embeddings"] = config.Tied,
        ["bos_token_id"] = config.BeginOfTextId ?? config.EndOfTextId,
        ["eos_token_id"] = config.EndOfTextId,
        ["torch_dtype"] = "float32",
        ["use_cache"] = true,
    };

    public override ModelConfig ReadConfig(ConfigKeys keys)
    {
        if (keys.Text("hidden_act", "silu") is not ("silu" or "swish") and var activation)
        {
            throw keys.Wrong("hidden_act", $"'{activation}'; silu can be computed");
        }

        keys.RequireBool("attention_bias", expected: false);
        keys.RequireBool("mlp_bias", expected: false);
        var (width, heads) = (keys.Integer("hidden_size"), keys.Integer("num_attention_heads"));
        var endOfText = keys.Has("eos_token_id") ? keys.Integer("eos_token_id") : 0;
        var headSize = keys.Has("head_dim") ? keys.Integer("head_dim") : 0;
        return new ModelConfig
        {
            Architecture = Name,
            VocabularySize = keys.Integer("vocab_size"),
            Context = keys.Has("max_position_embeddings") ? keys.Integer("max_position_embeddings") : 2048,
            Width = width,
            Layers = keys.Integer("num_hidden_layers"),
            Heads = heads,
            KvHeads = keys.Has("num_key_value_heads") ? keys.Integer("num_key_value_heads") : heads,
            HeadSize = heads > 0 && (long)headSize * heads == width ? 0 : headSize,
            FeedForwardWidth = keys.Integer("intermediate_size"),
            RopeTheta = RopeTheta(keys),
            Dropout = keys.Real("attention_dropout", 0),
            NormEpsilon = keys.Real("rms_norm_eps", 1e-6),
            Tied = keys.Bool("tie_word_embeddings", false),
            Bias = false,
            EndOfTextId = endOfText,
            BeginOfTextId = keys.Has("bos_token_id") && keys.Integer("bos_token_id") is var begin && begin != endOfText ? begin : null,
        };
    }

    // Rotation frequencies of older versions.
    public override bool IsIgnored(string name) => name.EndsWith(".rotary_emb.inv_freq", StringComparison.Ordinal);

    // transformers 5 puts base and scaling into one object.
    private static double RopeTheta(ConfigKeys keys)
    {
        foreach (var key in RopeKeys.Where(keys.Has))
        {
            var rope = keys.Object(key);
            if (rope.Text("rope_type", rope.Text("type", "default")) is not "default" and var type)
            {
                throw keys.Wrong(key, $"of the type '{type}'; only positions that are not scaled ('default', or null) can be computed");
            }

            if (rope.Has("rope_theta"))
            {
                return rope.Real("rope_theta", 10_000);
            }
        }

        return keys.Real("rope_theta", 10_000);
    }
}
