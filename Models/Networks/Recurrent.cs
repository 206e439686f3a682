using TorchSharp;
using static TorchSharp.torch;

namespace LlmPipeline.Models.Networks;

// B = batch, T = time, N = B * T, E = channels of the embedding, H = width of the state, V = vocabulary

/// <summary>
/// A recurrent language model: embedding, layers of one kind of cell, head. Notable:
/// - dropout after the embedding, between layers and before the head, not within a layer (Zaremba et al. 2014), of single
///   elements or of the same channels at all time steps (variational; Gal and Ghahramani 2016); weight drop within layers;
/// - a tied head of another width goes through a projection (Inan et al. 2017);
/// - every sequence begins with states of 0; a generation has no limit of length.
/// </summary>
internal sealed class Recurrent : LanguageModel
{
    private readonly RecurrentCell _cell;
    private readonly Tensor _embedding;
    private readonly RecurrentLayer[] _layers;
    private readonly Tensor? _projection;
    private readonly Linear _head;

    /// <summary>A network whose parameters are all 0.</summary>
    public Recurrent(ModelConfig config, RecurrentCell cell, Device device)
        : base(config, device)
    {
        _cell = cell;
        _embedding = Find("embedding.weight")!;
        _layers = [.. Enumerable.Range(0, config.Layers).Select(i => new RecurrentLayer(
            cell, Find($"{cell.Name}.weight_ih_l{i}")!, Find($"{cell.Name}.weight_hh_l{i}")!, Find($"{cell.Name}.bias_ih_l{i}"), Find($"{cell.Name}.bias_hh_l{i}")))];
        _projection = Find("projection.weight");
        _head = new Linear(Find("lm_head.weight") ?? _embedding, Find("lm_head.bias"), InputFirst: false);
    }

    /// <inheritdoc/>
    public override int? MaxPositions => null;

    /// <summary>Computes as on another device than the CPU.</summary>
    internal bool InPlainOps { get; set; }

    private protected override int BlockCount => _layers.Length;

    // Time first, until the last block.
    private protected override Tensor Embed(Tensor ids_N, Pass pass) => Drop(Lookup.Rows(_embedding, ids_N.view(pass.Batch, -1).t().reshape(-1), pass), pass);

    private protected override Tensor Block(int index, Tensor x_NC, Pass pass)
    {
        var byHand = Device.type == DeviceType.CPU && !InPlainOps;
        var y_NH = _layers[index].Forward(x_NC, pass, Config.RecurrentDropout, pass.OfBlock<RecurrentState>(index), byHand);
        y_NH = Pools && index == BlockCount - 1 ? y_NH : Drop(y_NH, pass);
        return index < BlockCount - 1 ? y_NH : y_NH.view(-1, pass.Batch, Config.Width).transpose(0, 1).reshape(-1, Config.Width);
    }

    private protected override Tensor FinalNorm(Tensor x_NC) => x_NC;

    private protected override Tensor Logits(Tensor x_NC) => _head.Forward(_projection is null ? x_NC : x_NC.mm(_projection.t()));

    internal override IDisposable? BeginPart(int part, int batch) => part == 0 ? null : new RecurrentState(batch, Config.Width, _cell.HasCellState, Device);

    private Tensor Drop(Tensor x_NC, Pass pass)
        => pass.Dropout is null ? x_NC : pass.Dropout.Apply(x_NC, Config.Dropout, Config.VariationalDropout ? pass.Batch : null);
}
