using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace LlmPipeline.Models;

/// <summary>Keys and values of all blocks, for as many positions as the context has.</summary>
internal sealed class GptCache : IncrementalState
{
    private readonly Gpt _model;
    private readonly int _batch;
    private readonly KeysAndValues[] _cache;
    private int _length;

    public GptCache(Gpt model, int batch)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(batch);
        _model = model;
        _batch = batch;
        var config = model.Config;
        using var scope = NewDisposeScope();
        _cache = [.. Enumerable.Range(0, config.Layers).Select(_ => new KeysAndValues(Buffer(), Buffer()))];

        Tensor Buffer() => empty([batch, config.Heads, config.Context, config.Width / config.Heads], float32, model.Device).DetachFromDisposeScope();
    }

    public override int Length => _length;

    public override void Append(ReadOnlySpan<int> ids_BT, Span<float> logits_BV)
    {
        var config = _model.Config;
        var time = ids_BT.Length / _batch;
        if (time == 0 || ids_BT.Length % _batch != 0 || logits_BV.Length != (long)_batch * config.VocabularySize)
        {
            throw new ArgumentException($"{ids_BT.Length} ids and room for {logits_BV.Length} logits were given; {_batch} sequences need as many ids each and {_batch} * {config.VocabularySize} logits.");
        }

        if (_length + time > config.Context)
        {
            throw new ArgumentException($"{time} ids do not fit: {_length} of the context's {config.Context} positions are in use. Begin again with the newest ids.");
        }

        _model.CheckIds(ids_BT);
        using var scope = NewDisposeScope();
        using var inference = inference_mode();
        var logits = _model.Append(_model.Ids(ids_BT), _batch, _length, _cache).cpu().contiguous();
        MemoryMarshal.Cast<byte, float>(logits.bytes).CopyTo(logits_BV);
        _length += time;
    }

    public override void Dispose()
    {
        foreach (var (keys, values) in _cache)
        {
            keys.Dispose();
            values.Dispose();
        }
    }
}
