using TorchSharp;
using static TorchSharp.torch;

namespace LlmPipeline.Models.Networks;

// B = batch, T = time, N = B * T, W = window, E = channels of the embedding, C = W * E, H = width of a hidden layer, V = vocabulary

/// <summary>
/// The neural probabilistic language model (Bengio et al. 2003): the embeddings of the last W = n - 1 tokens side by side, tanh
/// layers, softmax. Notable:
/// - <c>y = b + W x + U tanh(d + H x)</c>, where W x are the direct connections, which may be left out;
/// - before the first token of a sequence stand end-of-text ids;
/// - further hidden layers, a tied head, through a projection where its width is another, and dropout, after the embeddings
///   and after each hidden layer, are not in the paper.
/// </summary>
internal sealed class FeedForward : LanguageModel
{
    private readonly Tensor _embedding;
    private readonly Linear[] _hidden;
    private readonly Tensor? _direct;
    private readonly Tensor? _projection;
    private readonly Linear _head;

    /// <summary>A network whose parameters are all 0.</summary>
    public FeedForward(ModelConfig config, Device device)
        : base(config, device)
    {
        _embedding = Find("embedding.weight")!;
        _hidden = [.. Enumerable.Range(0, config.Layers).Select(i => LinearOf($"hidden.{i}", inputFirst: false))];
        _direct = Find("direct.weight");
        _projection = Find("projection.weight");
        _head = new Linear(Find("lm_head.weight") ?? _embedding, Find("lm_head.bias"), InputFirst: false);
    }

    /// <inheritdoc/>
    public override int? MaxPositions => null;

    private protected override int BlockCount => _hidden.Length;

    // (N, C): the oldest token of the window first.
    private protected override Tensor Embed(Tensor ids_N, Pass pass)
    {
        var ids_BT = ids_N.view(pass.Batch, -1);
        var before = (WindowState?)pass.Parts?[0];
        using var endOfText = Config.EndOfTextId.ToScalar();
        var before_BW = before?.Ids ?? full([pass.Batch, Config.Window - 1], endOfText, int64, ids_N.device);
        var all_BS = cat([before_BW, ids_BT], 1);
        before?.Keep(all_BS);
        var x_NC = Lookup.Rows(_embedding, all_BS.unfold(1, Config.Window, 1).reshape(-1), pass).view(ids_N.shape[0], -1);
        return pass.Dropout?.Apply(x_NC) ?? x_NC;
    }

    // Direct connections go past the hidden layers: what follows the first is (N, H + C).
    private protected override Tensor Block(int index, Tensor x_NC, Pass pass)
    {
        var input = index == 0 || _direct is null ? x_NC : x_NC.narrow(1, 0, Config.Width);
        var h_NH = _hidden[index].Forward(input).tanh();
        h_NH = Pools && index == BlockCount - 1 ? h_NH : pass.Dropout?.Apply(h_NH) ?? h_NH;
        return _direct is null ? h_NH : cat([h_NH, index == 0 ? x_NC : x_NC.narrow(1, Config.Width, _direct.shape[1])], 1);
    }

    private protected override Tensor FinalNorm(Tensor x_NC) => x_NC;

    private protected override Tensor Logits(Tensor x_NC)
    {
        var h_NH = _direct is null ? x_NC : x_NC.narrow(1, 0, Config.Width);
        var logits_NV = _head.Forward(_projection is null ? h_NH : h_NH.mm(_projection.t()));
        return _direct is null ? logits_NV : logits_NV.Plus(x_NC.narrow(1, Config.Width, _direct.shape[1]).mm(_direct.t()));
    }

    internal override IDisposable? BeginPart(int part, int batch) => part == 0 ? new WindowState(batch, Config.Window - 1, Config.EndOfTextId, Device) : null;

    /// <summary>The newest ids of a generation, (B, W - 1): those that the next id will see.</summary>
    private sealed class WindowState : IDisposable
    {
        public WindowState(int batch, int length, int endOfTextId, Device device)
        {
            using var endOfText = endOfTextId.ToScalar();
            Ids = full([batch, length], endOfText, int64, device).DetachFromDisposeScope();
        }

        public Tensor Ids { get; }

        public void Keep(Tensor all_BS) => Ids.copy_(all_BS.narrow(1, all_BS.shape[1] - Ids.shape[1], Ids.shape[1]));

        public void Dispose() => Ids.Dispose();
    }
}
