using TorchSharp;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace LlmPipeline.Models.Networks;

// B = batch, T = time, N = B * T, C = channels, H = heads, K = heads of keys and values, D = head size, V = vocabulary

/// <summary>
/// The decoder Transformer of Llama (Touvron et al. 2023). Notable:
/// - rotary positions (Su et al. 2021), each head's first half rotated with its second, as in Hugging Face's files;
/// - RMSNorm (Zhang and Sennrich 2019) before each part, SwiGLU (Shazeer 2020), no biases;
/// - grouped-query attention (Ainslie et al. 2023): K heads of keys and values serve H heads of queries;
/// - dropout where GPT-2 has it: after the embedding, on attention weights and before each residual addition.
/// </summary>
internal sealed class Llama : LanguageModel
{
    private readonly Tensor _embedding;
    private readonly Tensor _head;
    private readonly LlamaBlock[] _blocks;
    private readonly RmsNorm _norm;
    private readonly RotaryPositions _positions;

    /// <summary>A network whose parameters are all 0.</summary>
    public Llama(ModelConfig config, Device device)
        : base(config, device)
    {
        _embedding = Find("model.embed_tokens.weight")!;
        _head = Find("lm_head.weight") ?? _embedding;
        _norm = RmsNormOf("model.norm");
        _blocks = [.. Enumerable.Range(0, config.Layers).Select(i => $"model.layers.{i}").Select(name => new LlamaBlock(
            RmsNormOf($"{name}.input_layernorm"), Projection($"{name}.self_attn.q_proj"), Projection($"{name}.self_attn.k_proj"), Projection($"{name}.self_attn.v_proj"),
            Projection($"{name}.self_attn.o_proj"), RmsNormOf($"{name}.post_attention_layernorm"), Projection($"{name}.mlp.gate_proj"),
            Projection($"{name}.mlp.up_proj"), Projection($"{name}.mlp.down_proj")))];
        var (cos_TD, sin_TD) = RotaryPositions.Tables(config.Context, config.HeadWidth, config.RopeTheta);
        _positions = new RotaryPositions(Keep(cos_TD), Keep(sin_TD));

        RmsNorm RmsNormOf(string name) => new(Find($"{name}.weight")!, config.NormEpsilon);
        Linear Projection(string name) => LinearOf(name, inputFirst: false);
    }

    private protected override int BlockCount => _blocks.Length;

    private protected override Tensor Embed(Tensor ids_N, Pass pass)
    {
        var x_NC = Lookup.Rows(_embedding, ids_N, pass);
        return pass.Dropout?.Apply(x_NC) ?? x_NC;
    }

    private protected override Tensor Block(int index, Tensor x_NC, Pass pass)
        => _blocks[index].Forward(x_NC, Config, _positions, pass, pass.OfBlock<KeysAndValues>(index));

    private protected override Tensor FinalNorm(Tensor x_NC) => _norm.Forward(x_NC);

    private protected override Tensor Logits(Tensor x_NC) => x_NC.mm(_head.t());

    internal override IDisposable? BeginPart(int part, int batch)
        => part == 0 ? null : new KeysAndValues(batch, Config.KvHeads, Config.Context, Config.HeadWidth, Device);
}

/// <summary>x + attention(norm(x)), then x + mlp(norm(x)).</summary>
internal sealed record LlamaBlock(RmsNorm InputNorm, Linear Query, Linear Key, Linear Value, Linear Output, RmsNorm PostNorm, Linear Gate, Linear Up, Linear Down)
{
    /// <param name="x_NC">The residual stream.</param>
    /// <param name="config">Sizes.</param>
    /// <param name="positions">The rotations.</param>
    /// <param name="pass">The pass.</param>
    /// <param name="cache">Receives keys and values, and gives those before; null outside of a generation.</param>
    public Tensor Forward(Tensor x_NC, ModelConfig config, RotaryPositions positions, Pass pass, KeysAndValues? cache)
    {
        // What the backward pass needs lives on in the graph, until the pass has gone by; the rest goes at once.
        using var scope = NewDisposeScope();
        var normed_NC = InputNorm.Forward(x_NC);
        var q_BHTD = positions.Rotate(Heads(Query, config.Heads), pass.Start);
        var k_BKTD = positions.Rotate(Heads(Key, config.KvHeads), pass.Start);
        var y_BHTD = Attention.Of(q_BHTD, k_BKTD, Heads(Value, config.KvHeads), config.Objective, pass, cache);
        var attention = Output.Forward(y_BHTD.transpose(1, 2).reshape(x_NC.shape[0], -1));
        x_NC = x_NC.Plus(pass.Dropout?.Apply(attention) ?? attention);
        normed_NC = PostNorm.Forward(x_NC);
        var mlp = Down.Forward(F.silu(Gate.Forward(normed_NC)) * Up.Forward(normed_NC));
        return x_NC.Plus(pass.Dropout?.Apply(mlp) ?? mlp).MoveToOuterDisposeScope();

        Tensor Heads(Linear projection, int heads) => projection.Forward(normed_NC).view(pass.Batch, -1, heads, config.HeadWidth).transpose(1, 2);
    }
}

/// <summary>x / sqrt(mean of x squared + epsilon) * weight, over the channels.</summary>
internal sealed record RmsNorm(Tensor Weight, double Epsilon)
{
    public Tensor Forward(Tensor x_NC)
    {
        using var epsilon = Epsilon.ToScalar();
        return x_NC * x_NC.square().mean([-1], keepdim: true).add(epsilon).rsqrt() * Weight;
    }
}

/// <summary>
/// Rotary positions: at position t, element i of a head's first half and element i of its second are turned by the angle
/// t * theta^(-2i / D).
/// </summary>
/// <param name="Cos_TD">Cosines, those of the first half again in the second.</param>
/// <param name="Sin_TD">Sines likewise, negative in the first half.</param>
internal sealed record RotaryPositions(Tensor Cos_TD, Tensor Sin_TD)
{
    private readonly long _half = Cos_TD.shape[1] / 2;

    /// <summary>The tables, computed in double precision.</summary>
    public static (Tensor Cos_TD, Tensor Sin_TD) Tables(int positions, int headSize, double theta)
    {
        var half = headSize / 2;
        var (cos, sin) = (new float[(long)positions * headSize], new float[(long)positions * headSize]);
        for (var t = 0; t < positions; t++)
        {
            for (var i = 0; i < half; i++)
            {
                var (first, second) = (((long)t * headSize) + i, ((long)t * headSize) + half + i);
                var (sine, cosine) = Math.SinCos(t * Math.Pow(theta, -2.0 * i / headSize));
                (cos[first], cos[second]) = ((float)cosine, (float)cosine);
                (sin[first], sin[second]) = (-(float)sine, (float)sine);
            }
        }

        return (tensor(cos, [positions, headSize]), tensor(sin, [positions, headSize]));
    }

    /// <summary>Rotates the T positions from <paramref name="start"/> on.</summary>
    public Tensor Rotate(Tensor x_BHTD, int start)
    {
        var time = x_BHTD.shape[2];
        using var one = 1.ToScalar();
        return (x_BHTD * Cos_TD.narrow(0, start, time)).addcmul(x_BHTD.roll(_half, 3), Sin_TD.narrow(0, start, time), one);
    }
}
