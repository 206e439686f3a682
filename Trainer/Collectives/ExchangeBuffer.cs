using System.Runtime.InteropServices;

namespace LlmPipeline.Trainer.Collectives;

/// <summary>
/// What one all-reduce sums: fp32 gradients as fixed-point integers, followed by slots of 32 raw bits. Made once, used for every
/// step.
/// </summary>
/// <param name="gradientLength">Number of gradient elements; may be 0.</param>
/// <param name="slotCount">Number of slots.</param>
internal sealed class ExchangeBuffer(int gradientLength, int slotCount)
{
    private readonly long[] _sums = new long[gradientLength + slotCount];
    private readonly float[] _results = new float[gradientLength + slotCount];

    /// <summary>Gradient elements.</summary>
    public int GradientLength => gradientLength;

    /// <summary>All elements.</summary>
    public int Length => _sums.Length;

    /// <summary>The integers: before the exchange this worker's share, afterwards partial sums.</summary>
    public Span<long> Sums => _sums;

    /// <summary>After the exchange: the summed gradient.</summary>
    public Span<float> Gradients => _results.AsSpan(0, gradientLength);

    /// <summary>All results as raw bytes.</summary>
    public Span<byte> ResultBytes => MemoryMarshal.AsBytes(_results.AsSpan());

    /// <summary>Sets this worker's share of the slots to 0; with <paramref name="gradients"/> that of the gradients too.</summary>
    public void Clear(bool gradients) => _sums.AsSpan(gradients ? 0 : gradientLength).Clear();

    /// <summary>
    /// Adds the gradient of one micro-batch to this worker's share and sets it to 0; false when an element is not finite or
    /// too large.
    /// </summary>
    /// <param name="gradients">The gradient.</param>
    /// <param name="overwrite">True for the first micro-batch of a step.</param>
    /// <param name="limit">See <see cref="FixedPoint.LimitFor"/>.</param>
    public bool Add(Span<float> gradients, bool overwrite, float limit)
        => FixedPoint.AddAndClear(gradients, _sums.AsSpan(0, gradientLength), overwrite, limit);

    /// <summary>Adds a count to a slot; counts of all workers are summed.</summary>
    public void AddCount(int slot, int count) => _sums[gradientLength + slot] += count;

    /// <summary>Fills a slot; exactly one worker may fill it.</summary>
    public void Set(int slot, float value) => _sums[gradientLength + slot] = BitConverter.SingleToUInt32Bits(value);

    /// <summary>Fills two slots; exactly one worker may fill them.</summary>
    public void Set(int slot, double value)
    {
        var bits = BitConverter.DoubleToUInt64Bits(value);
        _sums[gradientLength + slot] = (uint)bits;
        _sums[gradientLength + slot + 1] = (uint)(bits >> 32);
    }

    /// <summary>After the exchange: the sum of a slot's counts.</summary>
    public int Count(int slot) => (int)Bits(slot);

    /// <summary>After the exchange: a slot's value.</summary>
    public float Single(int slot) => BitConverter.UInt32BitsToSingle(Bits(slot));

    /// <summary>After the exchange: the value of two slots.</summary>
    public double Double(int slot) => BitConverter.UInt64BitsToDouble(Bits(slot) | ((ulong)Bits(slot + 1) << 32));

    /// <summary>Turns final sums into results, for a range of elements.</summary>
    public void Finish(int offset, int count)
    {
        var gradients = Math.Clamp(gradientLength - offset, 0, count);
        FixedPoint.ToSingle(_sums.AsSpan(offset, gradients), _results.AsSpan(offset, gradients));
        var bits = MemoryMarshal.Cast<float, uint>(_results.AsSpan());
        for (var i = offset + gradients; i < offset + count; i++)
        {
            bits[i] = (uint)_sums[i];
        }
    }

    private uint Bits(int slot) => MemoryMarshal.Cast<float, uint>(_results.AsSpan())[gradientLength + slot];
}
