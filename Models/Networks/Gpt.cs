using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace LlmPipeline.Models.Networks;

// B = batch, T = time, S = positions attended to, N = B * T, C = channels, H = heads, D = head size, V = vocabulary

/// <summary>
/// The decoder Transformer of GPT-2 (Radford et al. 2019). Notable:
/// - learned positions, LayerNorm before each part, GELU in its tanh form, output embedding tied to the input's;
/// - dropout after the embedding, on attention weights and before each residual addition.
/// </summary>
internal sealed class Gpt : LanguageModel
{
    private readonly Tensor _wte;
    private readonly Tensor _wpe;
    private readonly GptBlock[] _blocks;
    private readonly Norm _lnF;

    /// <summary>A network whose parameters are all 0.</summary>
    public Gpt(ModelConfig config, Device device)
        : base(config, device)
    {
        _wte = Find("transformer.wte.weight")!;
        _wpe = Find("transformer.wpe.weight")!;
        _lnF = NormOf("transformer.ln_f");
        _blocks = [.. Enumerable.Range(0, config.Layers).Select(i => $"transformer.h.{i}").Select(name => new GptBlock(
            NormOf($"{name}.ln_1"), LinearOf($"{name}.attn.c_attn", inputFirst: true), LinearOf($"{name}.attn.c_proj", inputFirst: true),
            NormOf($"{name}.ln_2"), LinearOf($"{name}.mlp.c_fc", inputFirst: true), LinearOf($"{name}.mlp.c_proj", inputFirst: true)))];
    }

    private protected override int BlockCount => _blocks.Length;

    private protected override Tensor Embed(Tensor ids_N, Pass pass)
    {
        var time = ids_N.shape[0] / pass.Batch;
        var tokens_BTC = _wte.index_select(0, ids_N).view(pass.Batch, time, Config.Width);
        var x_NC = tokens_BTC.Plus(_wpe.narrow(0, pass.Start, time)).view(-1, Config.Width);
        return pass.Dropout?.Apply(x_NC) ?? x_NC;
    }

    private protected override Tensor Block(int index, Tensor x_NC, Pass pass) => _blocks[index].Forward(x_NC, Config, pass, pass.OfBlock<KeysAndValues>(index));

    private protected override Tensor FinalNorm(Tensor x_NC) => _lnF.Forward(x_NC);

    private protected override Tensor Logits(Tensor x_NC) => x_NC.mm(_wte.t());

    internal override IDisposable? BeginPart(int part, int batch)
        => part == 0 ? null : new KeysAndValues(batch, Config.Heads, Config.Context, Config.Width / Config.Heads, Device);
}

/// <summary>x + attention(norm(x)), then x + mlp(norm(x)).</summary>
internal sealed record GptBlock(Norm Ln1, Linear CAttn, Linear AttnProj, Norm Ln2, Linear CFc, Linear MlpProj)
{
    /// <param name="x_NC">The residual stream.</param>
    /// <param name="config">Sizes.</param>
    /// <param name="pass">The pass.</param>
    /// <param name="cache">Receives keys and values, and gives those before; null outside of a generation.</param>
    public Tensor Forward(Tensor x_NC, ModelConfig config, Pass pass, KeysAndValues? cache)
    {
        // What the backward pass needs lives on in the graph, until the pass has gone by; the rest goes at once.
        using var scope = NewDisposeScope();
        var width = x_NC.shape[1];
        var parts = CAttn.Forward(Ln1.Forward(x_NC)).split(width, 1);
        var y_BHTD = Attention.Of(Heads(parts[0]), Heads(parts[1]), Heads(parts[2]), config.Objective, pass, cache);
        var attention = AttnProj.Forward(y_BHTD.transpose(1, 2).reshape(-1, width));
        x_NC = x_NC.Plus(pass.Dropout?.Apply(attention) ?? attention);
        var mlp = MlpProj.Forward(F.gelu(CFc.Forward(Ln2.Forward(x_NC)), TorchSharp.Modules.GELU.Approximate.tanh));
        return x_NC.Plus(pass.Dropout?.Apply(mlp) ?? mlp).MoveToOuterDisposeScope();

        Tensor Heads(Tensor part_NC) => part_NC.view(pass.Batch, -1, config.Heads, width / config.Heads).transpose(1, 2);
    }
}
