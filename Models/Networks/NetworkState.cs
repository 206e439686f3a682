using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace LlmPipeline.Models.Networks;

/// <summary>A generation with a network: what each of its parts keeps of the ids so far.</summary>
internal sealed class NetworkState : IncrementalState
{
    private readonly LanguageModel _model;
    private readonly int _batch;
    private readonly IDisposable?[] _parts;
    private int _length;

    public NetworkState(LanguageModel model, int batch)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(batch);
        _model = model;
        _batch = batch;
        using var scope = NewDisposeScope();
        _parts = [.. Enumerable.Range(0, model.PartCount).Select(part => model.BeginPart(part, batch))];
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

        if (_length + time > _model.MaxPositions)
        {
            throw new ArgumentException($"{time} ids do not fit: {_length} of the context's {config.Context} positions are in use. Begin again with the newest ids.");
        }

        _model.CheckIds(ids_BT);
        using var scope = NewDisposeScope();
        using var inference = inference_mode();
        var logits = _model.Append(ids_BT, new Pass(_batch) { Start = _length, Parts = _parts }).cpu().contiguous();
        MemoryMarshal.Cast<byte, float>(logits.bytes).CopyTo(logits_BV);
        _length += time;
    }

    public override void Dispose()
    {
        foreach (var part in _parts)
        {
            part?.Dispose();
        }
    }
}
