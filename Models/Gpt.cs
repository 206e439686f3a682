using System.Runtime.InteropServices;
using TorchSharp;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace LlmPipeline.Models;

// B = batch, T = time, N = B * T, C = channels, H = heads, D = head size, V = vocabulary

/// <summary>
/// The decoder Transformer of GPT-2. Notable:
/// - learned positions, LayerNorm before each part, GELU in its tanh form, output embedding tied to the input's;
/// - dropout after the embedding, on attention weights and before each residual addition;
/// - functional: no modules, the parameters are views of one flat buffer, and so are their gradients;
/// - everything between the embedding and the logits is two-dimensional (N, C), except attention.
/// </summary>
internal sealed class Gpt : LanguageModel
{
    private readonly TorchParameters _parameters;
    private readonly Tensor _wte;
    private readonly Tensor _wpe;
    private readonly Block[] _blocks;
    private readonly Norm _lnF;

    /// <summary>A network whose parameters are all 0.</summary>
    public Gpt(ModelConfig config, Device device)
    {
        config.Validate();
        TorchRuntime.Initialize();
        Config = config;
        Device = device;
        var (views, length, decayedLength) = GptLayout.Place(config);
        _parameters = new TorchParameters(views, length, decayedLength, device);
        _wte = Tensor("wte.weight")!;
        _wpe = Tensor("wpe.weight")!;
        _lnF = NormOf("ln_f");
        _blocks = [.. Enumerable.Range(0, config.Layers).Select(i => new Block(
            NormOf($"h.{i}.ln_1"), LinearOf($"h.{i}.attn.c_attn"), LinearOf($"h.{i}.attn.c_proj"),
            NormOf($"h.{i}.ln_2"), LinearOf($"h.{i}.mlp.c_fc"), LinearOf($"h.{i}.mlp.c_proj")))];

        Tensor? Tensor(string name) => _parameters.Find($"transformer.{name}");
        Norm NormOf(string name) => new(Tensor($"{name}.weight")!, Tensor($"{name}.bias"), config.LayerNormEpsilon);
        Linear LinearOf(string name) => new(Tensor($"{name}.weight")!, Tensor($"{name}.bias"));
    }

    public override ModelConfig Config { get; }

    public override FlatParameters Parameters => _parameters;

    public override Device Device { get; }

    public override Tensor Forward(Tensor ids_BT)
    {
        ArgumentNullException.ThrowIfNull(ids_BT);
        var shape = ids_BT.shape;
        if (shape.Length != 2 || shape[1] > Config.Context)
        {
            throw new ArgumentException($"Ids of shape ({string.Join(", ", shape)}) were given; (B, T) with T at most {Config.Context} is needed.", nameof(ids_BT));
        }

        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var x_NC = Hidden(ids_BT.to(Device).view(-1), (int)shape[0], dropout: null);
        return Logits(x_NC).view(shape[0], shape[1], Config.VocabularySize).MoveToOuterDisposeScope();
    }

    public override float AccumulateGradients(ReadOnlySpan<int> inputs_BT, ReadOnlySpan<int> targets_BT, int batch, float lossScale, ulong dropoutSeed)
    {
        CheckBatch(inputs_BT, targets_BT, batch);
        var predicted = targets_BT.Length - targets_BT.Count(IgnoredTarget);
        if (predicted == 0)
        {
            throw new ArgumentException("Every target of the micro-batch is ignored; its mean loss does not exist.", nameof(targets_BT));
        }

        using var scope = NewDisposeScope();
        using var grad = enable_grad();
        using var dropout = Config.Dropout > 0 ? new Dropout(Config.Dropout, dropoutSeed, Device) : null;
        var logits_NV = Logits(Hidden(Ids(inputs_BT), batch, dropout));
        var loss = F.cross_entropy(logits_NV, Ids(targets_BT), ignore_index: IgnoredTarget, reduction: nn.Reduction.Sum);
        (loss * lossScale).backward();
        return loss.item<float>() / predicted;
    }

    public override void EvaluateSequences(ReadOnlySpan<int> inputs_BT, ReadOnlySpan<int> targets_BT, int batch, Span<double> lossSums_B, Span<long> correctCounts_B)
    {
        var time = CheckBatch(inputs_BT, targets_BT, batch);
        if (lossSums_B.Length != batch || correctCounts_B.Length != batch)
        {
            throw new ArgumentException($"The results of {batch} sequences do not fit {lossSums_B.Length} sums and {correctCounts_B.Length} counts.");
        }

        // A matrix product of other height may round a row in another way, so on the CPU, where it costs nothing, one sequence at a time.
        var together = Device.type == DeviceType.CPU ? 1 : batch;
        for (var first = 0; first < batch; first += together)
        {
            using var scope = NewDisposeScope();
            using var inference = inference_mode();
            var ids_N = Ids(inputs_BT.Slice(first * time, together * time));
            var targets_N = Ids(targets_BT.Slice(first * time, together * time));
            var logits_NV = Logits(Hidden(ids_N, together, dropout: null));
            var losses = F.cross_entropy(logits_NV, targets_N, ignore_index: IgnoredTarget, reduction: nn.Reduction.None).cpu();
            var correct = logits_NV.argmax(1).eq(targets_N).cpu();
            for (var b = 0; b < together; b++)
            {
                var sum = 0.0;
                foreach (var loss in MemoryMarshal.Cast<byte, float>(losses.bytes).Slice(b * time, time))
                {
                    sum += loss;
                }

                lossSums_B[first + b] = sum;
                correctCounts_B[first + b] = correct.bytes.Slice(b * time, time).Count((byte)1);
            }
        }
    }

    public override IncrementalState BeginGeneration(int batch) => new GptCache(this, batch);

    public override void Dispose() => _parameters.Dispose();

    /// <summary>Appends T ids to each sequence of a cache.</summary>
    /// <returns>(B, V), the logits after the last of them.</returns>
    internal Tensor Append(Tensor ids_N, int batch, int start, KeysAndValues[] cache)
    {
        var time = (int)(ids_N.shape[0] / batch);
        var x_NC = Embed(ids_N, batch, start, dropout: null);
        for (var i = 0; i < _blocks.Length; i++)
        {
            x_NC = _blocks[i].Forward(x_NC, batch, Config.Heads, dropout: null, cache[i], start);
        }

        var last_BC = x_NC.view(batch, time, Config.Width).select(1, time - 1);
        return Logits(_lnF.Forward(last_BC));
    }

    /// <summary>Copies ids to an int64 tensor on the device.</summary>
    internal Tensor Ids(ReadOnlySpan<int> ids)
    {
        var tensor = empty(ids.Length, int64);
        var values = MemoryMarshal.Cast<byte, long>(tensor.bytes);
        for (var i = 0; i < ids.Length; i++)
        {
            values[i] = ids[i];
        }

        return tensor.to(Device);
    }

    /// <summary>Throws unless all ids are of the vocabulary, or <paramref name="alsoAllowed"/>.</summary>
    internal void CheckIds(ReadOnlySpan<int> ids, int? alsoAllowed = null)
    {
        for (var i = 0; i < ids.Length; i++)
        {
            if ((uint)ids[i] >= (uint)Config.VocabularySize && ids[i] != alsoAllowed)
            {
                throw new ArgumentException($"Id {ids[i]} at place {i} is not of the model's vocabulary of {Config.VocabularySize} ids. Was the text encoded with another tokenizer?");
            }
        }
    }

    private int CheckBatch(ReadOnlySpan<int> inputs_BT, ReadOnlySpan<int> targets_BT, int batch)
    {
        if (batch < 1 || inputs_BT.Length == 0 || inputs_BT.Length % batch != 0 || targets_BT.Length != inputs_BT.Length || inputs_BT.Length / batch > Config.Context)
        {
            throw new ArgumentException(
                $"{inputs_BT.Length} inputs and {targets_BT.Length} targets were given; {batch} sequences of 1 to {Config.Context} of each are needed.");
        }

        CheckIds(inputs_BT);
        CheckIds(targets_BT, IgnoredTarget);
        return inputs_BT.Length / batch;
    }

    private Tensor Embed(Tensor ids_N, int batch, int start, Dropout? dropout)
    {
        var time = ids_N.shape[0] / batch;
        var tokens_BTC = _wte.index_select(0, ids_N).view(batch, time, Config.Width);
        var x_NC = (tokens_BTC + _wpe.narrow(0, start, time)).view(-1, Config.Width);
        return dropout is null ? x_NC : dropout.Apply(x_NC);
    }

    private Tensor Hidden(Tensor ids_N, int batch, Dropout? dropout)
    {
        var x_NC = Embed(ids_N, batch, 0, dropout);
        foreach (var block in _blocks)
        {
            x_NC = block.Forward(x_NC, batch, Config.Heads, dropout);
        }

        return _lnF.Forward(x_NC);
    }

    private Tensor Logits(Tensor x_NC) => x_NC.mm(_wte.t());
}
